"""Changes of files and folders, reported by Linux's inotify(7), which Python has no module for."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import final

MOVED_FROM_OR_SELF = 0x800 | 0x400  # IN_MOVE_SELF, IN_DELETE_SELF
# IN_CLOSE_WRITE, IN_MOVED_TO (a file is replaced by a rename), IN_CREATE, IN_DELETE
_ENTRY_CHANGED = 0x8 | 0x80 | 0x100 | 0x200
"""An entry of a folder was written and closed, moved in, created or deleted."""
_EVENT_BYTES = 65_536


def open_inotify(watches: Sequence[tuple[str, int]]) -> int:
    """Return a descriptor that is readable after an event of one `(path, mask)`; -1 without inotify."""
    # elsewhere callers poll, which FolderWatch.wait does after its timeout
    if not sys.platform.startswith("linux"):
        return -1
    # the C library that is loaded already
    library = ctypes.CDLL(None)
    inotify = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if inotify < 0:  # the user's limit of instances
        return -1
    for path, mask in watches:
        if library.inotify_add_watch(inotify, os.fsencode(path), mask) < 0:
            # all or none: callers that watch half of the folders would miss changes
            os.close(inotify)
            return -1
    return inotify


def drain(inotify: int) -> None:
    """Discard the events that were reported until now."""
    with contextlib.suppress(BlockingIOError, OSError):
        while inotify >= 0 and os.read(inotify, _EVENT_BYTES):
            pass


@final
class FolderWatch:
    """Reports to the event loop that an entry of one of the folders has changed."""

    def __init__(self, folders: Sequence[Path]):
        self._changed = asyncio.Event()
        self._inotify = open_inotify([(str(folder), _ENTRY_CHANGED) for folder in folders])
        if self.is_active:
            asyncio.get_running_loop().add_reader(self._inotify, self._report)

    @property
    def is_active(self) -> bool:
        """Whether changes are reported: False without inotify."""
        return self._inotify >= 0

    async def wait(self, seconds: float) -> None:
        """Return after a change, or after `seconds`, because changes by another machine are not reported."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        # cleared before the caller looks: a change during its look ends the next wait at once
        self._changed.clear()

    def close(self) -> None:
        """Stop watching."""
        if self.is_active:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def _report(self) -> None:
        drain(self._inotify)
        self._changed.set()
