"""A time for cache expiry that ignores steps of the wall clock. Knows the clock only."""

from __future__ import annotations

from tamis.clock import Clock


class SteadySeconds:
    """Seconds since 1970 as they were at the start, moved on by the monotonic clock.

    Expiry is stored in seconds since 1970, because it must outlive the process; a wall clock that
    is set forward an hour must not expire an hour's answers early.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self._offset_seconds = clock.utc_ns() / 1e9 - clock.monotonic()

    def now(self) -> int:
        """Return whole seconds since 1970."""
        return int(self._offset_seconds + self._clock.monotonic())
