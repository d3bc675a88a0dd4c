"""How long the event loop's thread has waited for a disk, for the thread that reports heartbeats.

A loop that waits for a slow disk and a loop that hangs look alike from outside: neither comes round.
Code that does blocking I/O on the loop's thread marks it with `with LOOP_IO:`.
"""

from __future__ import annotations

import time
from typing import final


@final
class IoTime:
    """Adds up the time spent in `with` blocks; entered by one thread at a time, read by any."""

    __slots__ = ("_finished", "_since")

    def __init__(self) -> None:
        self._finished = 0.0
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._since is not None:
            self._finished += time.monotonic() - self._since
        self._since = None

    @property
    def current(self) -> float:
        """Seconds since the block that is running now was entered, 0 outside of one."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def total(self) -> float:
        """Seconds in all blocks, the running one included."""
        return self._finished + self.current


LOOP_IO = IoTime()
"""Blocking I/O on this process's event loop."""
