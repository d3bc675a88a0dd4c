"""Old calls are deleted while the service runs. Knows a store and the clock; knows no request."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.storage import CallQuery, Store
from tamis.storage.expiry import SteadySeconds

STEP_SECONDS = 60.0
"""Each step deletes what grew too old since the last one: little at a time, however long calls are kept."""

_logger = logging.getLogger(__name__)


class Retention:
    """Deletes calls older than `days`, a little every minute; 0 keeps them for ever.

    Several workers may do so at once: each deletes what the others have not.
    """

    def __init__(self, store: Store, clock: Clock, *, days: int):
        self._store, self._clock, self._days = store, clock, days
        self._steady = SteadySeconds(clock)  # a wall clock that is set forward deletes nothing early
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if calls are not kept for ever."""
        if self._days > 0:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave the rest to the next time; what is being deleted now is deleted."""
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
            if not (await self._store.calls(CallQuery(until=before), limit=1)).calls:
                return  # a deletion also empties the WAL, which is not free
            deleted = await self._store.delete_before(before)
        except StoreError as failed:  # the next step tries again
            _logger.warning("old calls could not be deleted: %s", failed)
            return
        if deleted:
            _logger.info("%d calls older than %d days deleted", deleted, self._days)
