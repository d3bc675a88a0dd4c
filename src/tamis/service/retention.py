"""Retention: deletes old calls while the service runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from tamis.clock import Clock, SteadyClock
from tamis.errors import StoreError
from tamis.settings import Settings
from tamis.storage import LogQuery, Store

STEP_SECONDS = 60.0
"""Each step deletes the calls that have expired since the last one: a minute's worth, however long calls are
kept. A deletion of a million rows at once delayed writes by up to 148 ms (docs/lab-notes.md)."""

_logger = logging.getLogger(__name__)


def retention_days(settings: Settings, store: Store) -> int:
    """Return the number of days that calls are kept; raise StoreError if only a closed store knows it."""
    # a setting of 0 means forever and must win over the store's default, so its presence decides
    if "log_retention_days" in settings.model_fields_set:
        return settings.log_retention_days
    return store.default_retention_days


def described_retention(settings: Settings, store: Store) -> str:
    """Return a description of the retention, such as `deleted after 90 days`."""
    is_set = "log_retention_days" in settings.model_fields_set
    if settings.is_store_a_cluster and not is_set:
        return "deleted as the cluster's tables say"
    days = retention_days(settings, store)
    how = "TAMIS_LOG_RETENTION_DAYS" if is_set or days else "set TAMIS_LOG_RETENTION_DAYS"
    return f"deleted after {days} days ({how})" if days else f"kept forever ({how})"


class Retention:
    """Deletes calls older than `retention_days`, a little every minute; 0 keeps them forever.

    Several workers may run it at once: each deletes what the others have not.
    """

    def __init__(self, settings: Settings, store: Store, clock: Clock):
        self._settings, self._store, self._clock = settings, store, clock
        self._steady = SteadyClock(clock)  # a wall clock that is set forward deletes nothing early
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the steps; each asks for the days again, because a replaced store file may have others."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel the steps and wait until the current one has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._step()
            await self._clock.sleep(STEP_SECONDS)

    async def _step(self) -> None:
        log = self._store.log
        try:
            days = retention_days(self._settings, self._store)
            before = datetime.fromtimestamp(self._steady.now(), UTC) - timedelta(days=days)
            if days == 0 or not (await log.read(LogQuery(until=before), limit=1)).rows:
                return  # a deletion also empties the WAL, so none is requested without need
            deleted = await log.delete_before(before)
        except StoreError as failed:  # the next step tries again
            _logger.warning("old calls could not be deleted: %s", failed)
            return
        if deleted:
            _logger.info("%d calls older than %d days deleted", deleted, days)
