"""Checkpoints, in their own thread so that no answer waits for them. Knows no table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import final

import apsw

from tamis.errors import StoreError
from tamis.storage.sqlite.connection import Worker

# pages since the last checkpoint, not of the WAL: a long reader may keep the WAL from being restarted
_CHECKPOINT_PAGES = 4_000
_RESTART_PAGES = 16_000  # 64 MB

_logger = logging.getLogger(__name__)


@final
class Checkpointer:
    """Writes the WAL back into the file."""

    def __init__(self, worker: Worker, require_in_place: Callable[[], None]):
        """Take a function that raises StoreError if the files are no longer those at their paths."""
        self._worker, self._require_in_place = worker, require_in_place
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._wal_pages = self._checkpointed_pages = 0
        self._is_closed = False

    def watch(self, connection: apsw.Connection) -> None:
        """Count the pages of every commit of `connection`, in whichever thread."""
        connection.set_wal_hook(self._committed)

    async def run(self) -> None:
        """Write back as much as readers allow."""
        await self._worker.run(self._checkpoint)

    async def truncate(self) -> None:
        """Write the whole WAL back and empty it, unless a reader needs it."""
        try:
            await self._worker.run(self._truncate)
        except StoreError as failed:
            _logger.warning("WAL not emptied: %s", failed)

    async def close(self, *, checkpoint: bool = True) -> None:
        """Finish the checkpoint that is running and start no other."""
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._worker.close(checkpoint=checkpoint)

    def _committed(self, connection: apsw.Connection, database: str, pages: int) -> int:
        if pages < self._wal_pages:  # the WAL was restarted
            self._checkpointed_pages = 0
        self._wal_pages = pages
        if pages - self._checkpointed_pages >= _CHECKPOINT_PAGES and self._task is None:
            self._loop.call_soon_threadsafe(self._start)
        return apsw.SQLITE_OK

    def _start(self) -> None:
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._in_background())

    async def _in_background(self) -> None:
        try:
            self._checkpointed_pages = self._wal_pages
            await self.run()
        except StoreError as failed:  # the next commit meets the same fault and reports it
            _logger.warning("checkpoint failed: %s", failed)
        finally:
            self._task = None

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Write back without waiting for readers; restart a WAL that has grown beyond its bound."""
        self._require_in_place()  # a WAL that was removed may be older than what others have written since
        try:
            pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages > _RESTART_PAGES:
                # not TRUNCATE: giving 64 MB back to the disk holds writers up for 90 ms
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return  # another process is checkpointing, or a reader needs the WAL: next time

    def _truncate(self, connection: apsw.Connection) -> None:
        self._require_in_place()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
