"""The one place that asks the machine for the time. Knows no step; knows nothing of ids or expiry."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod


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
        await asyncio.sleep(seconds)
