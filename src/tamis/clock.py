"""Clocks: the injected one, a steady one for expiry, and the time that a loop spends in blocking I/O."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import final


class Clock(ABC):
    """What time it is, and how to wait; injected, so that tests move it by hand."""

    @abstractmethod
    def utc_ns(self) -> int:
        """Return nanoseconds since 1970 in UTC; may step back or forward when the machine is set."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of monotonic time have passed."""


class SystemClock(Clock):
    """The machine's own clock."""

    # not wrapped: a request asks a dozen times
    utc_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        import asyncio  # commands without an event loop start without it

        await asyncio.sleep(seconds)


class SteadyClock:
    """Seconds since 1970 that ignore steps of the wall clock while the process lives.

    What is stored with a time of expiry must outlive the process, so it is stored in seconds since 1970;
    a wall clock that is set forward an hour must not expire an hour's entries early.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self._offset_seconds = clock.utc_ns() / 1e9 - clock.monotonic()

    def now(self) -> int:
        """Return whole seconds since 1970."""
        # the offset is taken once: later steps of the wall clock do not show
        return int(self._offset_seconds + self._clock.monotonic())


@final
class BlockingTime:
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
        """Seconds since the running block was entered, 0 outside of one."""
        # read once: another thread may leave the block between two reads
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def total(self) -> float:
        """Seconds in all blocks, the running one included."""
        return self._finished + self.current


LOOP_IO = BlockingTime()
"""Blocking I/O on this process's event loop.

Seen from the supervisor, a loop that waits for a slow disk and a loop that hangs look alike. Code that does
blocking I/O on the loop's thread marks it with `with LOOP_IO:`; the heartbeat thread reads it.
"""
