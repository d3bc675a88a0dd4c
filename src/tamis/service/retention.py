"""Retention: old calls are deleted while the service runs. Knows a call log and the clock."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from tamis.clock import Clock, SteadyClock
from tamis.errors import StoreError
from tamis.storage import CallLog, LogQuery

STEP_SECONDS = 60.0
"""Each step deletes what has expired since the last one: little at a time, however long calls are kept."""

_logger = logging.getLogger(__name__)


class Retention:
    """Deletes calls older than `days`, a little every minute; 0 keeps them forever.

    Several workers may run it at once: each deletes what the others have not.
    """

    def __init__(self, log: CallLog, clock: Clock, *, days: int):
        self._log, self._clock, self._days = log, clock, days
        self._steady = SteadyClock(clock)  # a wall clock that is set forward deletes nothing early
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start, unless calls are kept forever."""
        if self._days > 0:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop after the step that is running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._step()
            await self._clock.sleep(STEP_SECONDS)

    async def _step(self) -> None:
        before = datetime.fromtimestamp(self._steady.now(), UTC) - timedelta(days=self._days)
        try:
            if not (await self._log.read(LogQuery(until=before), limit=1)).rows:
                return  # a deletion also empties the WAL, which is not free
            deleted = await self._log.delete_before(before)
        except StoreError as failed:  # the next step tries again
            _logger.warning("old calls could not be deleted: %s", failed)
            return
        if deleted:
            _logger.info("%d calls older than %d days deleted", deleted, self._days)
