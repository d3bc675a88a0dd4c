"""Calls that could not be written wait in a spool and are sent later; counts where each call is.

    start_putting ─► spool ─► has_work ─► send: oldest 500 ─► log.append ─► spool.remove ─► the next 500
                     full, or fails ─► dropped

Uses a spool and a call log by their interfaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import final

from tamis.errors import StoreError
from tamis.events import Counters, Events, StoreFailed, StoreStateChanged
from tamis.storage.base import CallLog
from tamis.storage.rows import CallRecord
from tamis.storage.spool import Spool

# rows per commit: the spool is emptied in steps, each of which may fail and be repeated
_ROWS_PER_SEND = 500

_logger = logging.getLogger(__name__)


@final
class Outbox:
    """The spool of one store, its counters, and whether the store fails."""

    def __init__(self, spool: Spool):
        self._spool = spool
        self._accepted = self._written = self._dropped = 0
        self._emit = Events().emit
        # the loop keeps weak references to its tasks: without this one a task may be collected early
        self._putting: set[asyncio.Task[None]] = set()
        self.fault: str | None = None
        """Why the store fails, None while it works."""
        self.has_work = asyncio.Event()
        self.lost_rows = 0
        """Calls that waited in memory when the store was closed, and are in no log."""

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def counters(self) -> Counters:
        """The counts now."""
        return Counters(self._accepted, self._written, len(self._spool), self._dropped)

    @property
    def is_degraded(self) -> bool:
        """Whether the store fails, or the spool holds calls."""
        return self.fault is not None or len(self._spool) > 0

    def emit_to(self, events: Events, *, since: Counters) -> None:
        """Emit every change to `events`, and count on from `since`, which an earlier process left."""
        self._emit = events.emit
        self._accepted, self._written, self._dropped = since.accepted, since.written, since.dropped

    async def open(self) -> None:
        """Open the spool; accept what an earlier process left in it, and count what it left nowhere."""
        await self._spool.open()
        found = len(self._spool)
        # a process that was killed may have counted calls that it neither wrote nor spooled
        self._dropped += max(0, self._accepted - self._written - self._dropped - found)
        self._accepted = self._written + self._dropped + found
        self._emit_state()

    async def close(self) -> None:
        """Close the spool."""
        await self._spool.close()

    def failed(self, error: StoreError) -> None:
        """Record that the store fails; logged once until it works again."""
        if self.fault is None:
            _logger.error("the store failed; predictions continue: %s", error)
        self.fault = str(error)
        self._emit(StoreFailed(error.fault))
        self._emit_state()
        self.has_work.set()

    def note_written(self, count: int) -> None:
        """Count calls that went straight into the log."""
        self._accepted += count
        self._written += count
        self._emit_state()

    def _emit_state(self) -> None:
        self._emit(StoreStateChanged(self.counters, self.is_degraded))

    def start_putting(self, calls: Sequence[CallRecord]) -> asyncio.Task[None]:
        """Put calls into the spool in their own task, which a caller that is cancelled does not interrupt."""
        task = asyncio.create_task(self._put(calls))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)
        return task

    async def finish_putting(self) -> None:
        """Return when no task puts calls into the spool."""
        if self._putting:
            await asyncio.wait({*self._putting})

    async def send(self, log: CallLog) -> bool:
        """Write all calls of the spool to `log`; return False if the spool does not allow it.

        The store works again as soon as the first calls are written. Raises StoreError if the log fails.
        """
        all_sent = await self._send_some(log)
        if self.fault is not None:
            self.fault = None
            self._emit_state()
            _logger.info("the store works again; %d calls are still in the spool", len(self._spool))
        while all_sent and len(self._spool) > 0:
            all_sent = await self._send_some(log)
        return all_sent

    async def leave(self) -> None:
        """Leave the calls in the spool's file for the next process; count them as lost if there is none."""
        waiting, path = len(self._spool), self._spool.path
        if path is not None:
            _logger.warning("%d rows of the call log wait in %s: %s", waiting, path, self.fault)
            return
        await self._spool.remove(await self._spool.oldest(waiting))
        self.lost_rows += waiting
        self._dropped += waiting
        self._emit_state()
        _logger.error("%d rows of the call log are lost; they waited in memory: %s", waiting, self.fault)

    async def _put(self, calls: Sequence[CallRecord]) -> None:
        try:
            added = await self._spool.put(calls)
        except StoreError as failed:
            _logger.error("the spool failed: %s", failed)
            added = 0
        self._accepted += len(calls)
        self._dropped += len(calls) - added
        self._emit_state()
        self.has_work.set()

    async def _send_some(self, log: CallLog) -> bool:
        """Send the calls that have waited longest; return whether the spool allowed it."""
        if len(self._spool) == 0:
            return True
        try:
            calls = await self._spool.oldest(_ROWS_PER_SEND)
        except StoreError as failed:
            _logger.error("the spool cannot be read: %s", failed)
            return False
        # written before they are removed: a kill in between sends them twice, never loses them
        await log.append(calls)
        try:
            await self._spool.remove(calls)
        except StoreError as failed:  # they will be sent once more, which is harmless
            _logger.error("the spool cannot be emptied: %s", failed)
            return False
        self._written += len(calls)
        self._emit_state()
        return True
