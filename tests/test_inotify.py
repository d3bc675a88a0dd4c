"""A folder that is watched wakes the event loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tamis.inotify import FolderWatch


@pytest.mark.parametrize("change", ["rename", "write", "remove"])
async def test_watch_wakes_after_a_change(tmp_path: Path, change: str) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "aliases.json").write_text("{}")
    watch = FolderWatch(folders)
    assert watch.is_active
    waiting = asyncio.create_task(watch.wait(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    if change == "rename":
        (tmp_path / "new").write_text("{}")
        os.replace(tmp_path / "new", folders[1] / "aliases.json")
    elif change == "write":
        (folders[1] / "aliases.json").write_text("[]")
    else:
        (folders[0] / "aliases.json").unlink()
    async with asyncio.timeout(30):
        await waiting
    began = time.monotonic()
    await watch.wait(0.01)
    assert time.monotonic() - began >= 0.005, "each change wakes once"
    watch.close()


async def test_watch_of_a_missing_folder_leaves_polling(tmp_path: Path) -> None:
    watch = FolderWatch([tmp_path / "missing"])
    assert not watch.is_active
    await watch.wait(0.001)
    watch.close()
