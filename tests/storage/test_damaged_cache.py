"""A store whose cache is damaged while it runs, and a service of two workers: the log loses no row."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import apsw
import httpx
import pytest

from tamis.clock import SystemClock
from tamis.storage import LogQuery
from tamis.storage.ids import TimeIds
from tamis.storage.sqlite import SqliteStore
from tests.support.processes import serving
from tests.support.store_samples import SCORES, call
from tests.support.store_samples import digest as key

CONTENTS = {
    "zeros": bytes(4_096),
    "magic": b"tamisCache\x00\x02" + bytes(5_000),
    **{f"{size} bytes": b"TamisCache"[:size] for size in range(11)},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_store_opens_and_logs_with_a_damaged_cache(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tamis.db"
    path.with_name("tamis.db-cache128").write_bytes(content)
    path.with_name("tamis.db-cache99999999999").write_bytes(b"stray")
    store, ids = SqliteStore(path, SystemClock()), TimeIds(SystemClock())
    await store.open()
    await store.log.append([call(ids, "first")])
    await store.cache.put_many({key(1): SCORES})
    path.with_name("tamis.db-cache128").write_bytes(content)
    await store.log.append([call(ids, "second")])
    await store.cache.put_many({key(2): SCORES})
    while await store.cache.get_many([key(2)]) != [SCORES]:
        await asyncio.sleep(0)
    assert [row.text for row in (await store.log.read(LogQuery())).rows] == ["first", "second"]
    await store.close()


@pytest.mark.parametrize("damage", ["emptied", "first page zero", "head"])
def test_every_text_is_logged_when_the_cache_is_lost(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "tamis.db-cache128"
    sent = 0
    with (
        serving(
            tmp_path, "--mock", "--workers", "2", "--store", "sqlite:///tamis.db", TAMIS_DRAIN_SECONDS="0"
        ) as service,
        httpx.Client(base_url=service.address, timeout=20) as client,
    ):

        def ask(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                params = {"text": f"text {sent}"}
                answer = client.get("/prediction", params=params, headers={"connection": "close"})
                assert answer.status_code == 200
                sent += 1

        ask(50)
        if damage == "emptied":
            os.truncate(file, 0)
        else:
            with file.open("r+b") as opened:
                opened.seek(64 if damage == "head" else 0)
                opened.write(b"\xff" * 8 if damage == "head" else bytes(4_096))
        ask(50)
        before = service.workers()
        os.kill(min(before), signal.SIGKILL)
        while len(service.workers() - {min(before)}) < 2:
            ask(1)
        ask(50)
        status = httpx.get(f"{service.address}/health/ready").json()["status"]
        assert status == "ready"
        assert service.stop() == 0
        assert "Traceback" not in service.said
    rows = {text for (text,) in apsw.Connection(str(tmp_path / "tamis.db")).execute("SELECT text FROM calls")}
    assert rows == {f"text {number}" for number in range(sent)}
