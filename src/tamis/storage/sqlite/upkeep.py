"""Checkpoints and eviction, in a thread of their own so that no answer waits for them.

Knows when they are due; does not know what is in the tables.
"""

from __future__ import annotations

import asyncio
import logging
from typing import final

import apsw

from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.expiry import SteadySeconds
from tamis.storage.sqlite import cache
from tamis.storage.sqlite.connection import Worker

_CHECKPOINT_PAGES = 4_000
_RESTART_PAGES = 16_000  # 64 MB
_SWEEP_ANSWERS = cache.ROWS_OF_A_SWEEP // 2  # evicts faster than answers arrive

_logger = logging.getLogger(__name__)


@final
class Upkeep:
    """Writes the WAL back into the file and keeps the cache within its bounds."""

    def __init__(self, worker: Worker, steady: SteadySeconds, options: StoreOptions):
        self._worker, self._steady, self._options = worker, steady, options
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._wal_pages = self._checkpointed_pages = 0
        self._answers = 0
        self._position = 0
        self._is_closed = False

    def watch(self, connection: apsw.Connection) -> None:
        """Hear of every commit of `connection`, in whichever thread."""
        connection.set_wal_hook(self._committed)

    def noticed_answers(self, count: int) -> None:
        """Count answers towards the next sweep."""
        self._answers += count

    async def run(self) -> None:
        """Checkpoint and sweep until nothing is left to do."""
        await self._worker.run(self._checkpoint)
        await self._sweep()
        while self._position:
            await self._sweep()

    async def truncate(self) -> None:
        """Write the whole WAL back and empty it, unless somebody is reading it now."""
        try:
            await self._worker.run(_truncate)
        except StoreError as failed:
            _logger.warning("WAL not emptied: %s", failed)

    async def close(self) -> None:
        """Finish what is going on and begin nothing more."""
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._worker.close()

    def _committed(self, connection: apsw.Connection, database: str, pages: int) -> int:
        if pages < self._wal_pages:  # the WAL began anew
            self._checkpointed_pages = 0
        self._wal_pages = pages
        is_due = pages - self._checkpointed_pages >= _CHECKPOINT_PAGES or self._answers >= _SWEEP_ANSWERS
        if is_due and self._task is None:
            self._loop.call_soon_threadsafe(self._start)
        return apsw.SQLITE_OK

    def _start(self) -> None:
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._in_background())

    async def _in_background(self) -> None:
        try:
            while self._answers >= _SWEEP_ANSWERS:  # more may have come than one sweep takes away
                self._answers -= _SWEEP_ANSWERS
                await self._sweep()
            self._checkpointed_pages = self._wal_pages
            await self._worker.run(self._checkpoint)
        except StoreError as failed:  # the next commit meets the same fault and answers for it
            _logger.warning("upkeep failed: %s", failed)
        finally:
            self._task = None

    async def _sweep(self) -> None:
        self._position = await self._worker.run(
            lambda connection: cache.sweep(
                connection,
                position=self._position,
                now_seconds=self._steady.now(),
                most_rows=self._options.cache_rows,
            )
        )

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Write back without waiting for anybody; a WAL that never comes to rest is made to."""
        try:
            pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages > _RESTART_PAGES:
                # not TRUNCATE: giving 64 MB back to the disk holds writers up for 90 ms
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return  # another process is at it, or a reader needs the WAL: next time


def _truncate(connection: apsw.Connection) -> None:
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
