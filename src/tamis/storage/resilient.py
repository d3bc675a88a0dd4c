"""A store that keeps predictions going while its database is down. Wraps any store by its interfaces.

append ─► store works: its log ─► fails ─► outbox: the spool ─► (reconnected) ─► its log
lookups ─► store works: its cache ─► fails ─► cache miss
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import final

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.events import Counters, Events
from tamis.storage.base import Answers, CallLog, HourCount, PredictionCache, Scores, Store, StoreHealth
from tamis.storage.ids import KEY_BYTES
from tamis.storage.outbox import Outbox
from tamis.storage.query import PAGE_ROWS, LogQuery, Page
from tamis.storage.rows import CallRecord, check_calls
from tamis.storage.spool import Spool

# how soon calls in the spool are tried again: a store that restarts should not wait long for them
RETRY_SECONDS = 1.0


@final
class ResilientCallLog(CallLog):
    """A log to which calls can always be appended; reads and deletions fail while `inner` does."""

    def __init__(self, inner: CallLog, outbox: Outbox):
        self._inner, self._outbox = inner, outbox

    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Write the calls, or put them into the spool, or count them as dropped."""
        outbox = self._outbox
        if outbox.fault is None:
            try:
                await self._inner.append(calls)
            except StoreError as failed:
                outbox.failed(failed)
            except asyncio.CancelledError:
                # they may or may not have been written: sending them again is harmless
                outbox.start_putting(calls)
                raise
            else:
                outbox.note_written(len(calls))
                return
        check_calls(calls)
        # a caller that is cancelled from here on must not keep its calls out of the spool
        await asyncio.shield(outbox.start_putting(calls))

    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[CallRecord]:
        """Read the store's log; calls in the spool are not in it yet."""
        return await self._inner.read(query, after=after, limit=limit)

    async def find(self, id: bytes, *, caller: str | None = None) -> CallRecord | None:
        """Search the store's log; calls in the spool are not in it yet."""
        return await self._inner.find(id, caller=caller)

    async def summary(self, query: LogQuery) -> list[HourCount]:
        """Count the store's log; calls in the spool are not in it yet."""
        return await self._inner.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        """Delete from the store's log; old calls in the spool are deleted the next time."""
        return await self._inner.delete_before(moment)

    async def delete_caller(self, caller: str) -> int:
        """Delete from the store's log, unless the spool would write rows of the caller again."""
        if len(self._outbox) > 0:
            raise StoreError(f"{len(self._outbox)} calls are still in the spool; try again later")
        return await self._inner.delete_caller(caller)


@final
class ResilientCache(PredictionCache):
    """A cache that misses while `inner` fails."""

    def __init__(self, inner: PredictionCache, outbox: Outbox):
        self._inner, self._outbox = inner, outbox
        # keys that are made with it are never found again: a few predictions are computed twice
        self._secret = os.urandom(KEY_BYTES)

    @property
    def secret(self) -> bytes:
        """The store's key; a random one until the store was reached for the first time."""
        return self._secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what the store holds; nothing while it fails."""
        if self._outbox.fault is None:
            try:
                return await self._inner.get_many(keys)
            except StoreError as failed:
                self._outbox.failed(failed)
        return [None] * len(keys)

    async def put_many(self, answers: Answers) -> None:
        """Store answers; drop them while the store fails."""
        if self._outbox.fault is None:
            try:
                await self._inner.put_many(answers)
            except StoreError as failed:
                self._outbox.failed(failed)

    def read_secret(self) -> None:
        """Take over the key of the store, which was just opened."""
        self._secret = self._inner.secret


@final
class ResilientStore(Store):
    """A store around `inner`: while that fails, calls wait in `spool` and the cache misses.

    Only `open` and what reads or deletes a log raise `StoreError`; appending and lookups, which predictions
    need, do not. Feedback is not spooled: its sender gets the error. The store
    reconnects by itself, at once and then every `retry_seconds`, and sends the calls of the spool. A call
    that was sent twice is logged once: its id identifies it.
    """

    log: ResilientCallLog
    cache: ResilientCache

    def __init__(
        self,
        inner: Store,
        spool: Spool,
        clock: Clock,
        *,
        retry_seconds: float = RETRY_SECONDS,
        may_start_without: bool = False,
    ):
        self._inner, self._clock = inner, clock
        self._retry_seconds, self._may_start_without = retry_seconds, may_start_without
        self._outbox = Outbox(spool)
        self.log = ResilientCallLog(inner.log, self._outbox)
        self.cache = ResilientCache(inner.cache, self._outbox)
        self.feedback = inner.feedback
        self._reconnecting: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[bool] | None = None
        self._is_healthy = asyncio.Event()

    @property
    def counters(self) -> Counters:
        """How many calls are where."""
        return self._outbox.counters

    @property
    def default_retention_days(self) -> int:
        """The days of the store inside; raises StoreError until it is open."""
        return self._inner.default_retention_days

    def emit_to(self, events: Events, *, since: Counters) -> None:
        """Emit every change to `events`, and count on from `since`; call it before `open`.

        `since` is what an earlier process counted. Calls that it accepted, and that are neither written nor
        in the spool, are counted as dropped.
        """
        self._outbox.emit_to(events, since=since)

    @property
    def lost_rows(self) -> int:
        """Calls that waited in memory when the store was closed, and are in no log."""
        return self._outbox.lost_rows

    @property
    def fault(self) -> str | None:
        """Why the store fails, None while it works; the spool may still hold calls then."""
        return self._outbox.fault

    @property
    def is_degraded(self) -> bool:
        """Whether the store fails, or the spool holds calls."""
        return self._outbox.is_degraded

    async def wait_healthy(self) -> None:
        """Return as soon as the store works and the spool is empty."""
        while self.is_degraded:
            self._is_healthy.clear()
            await self._is_healthy.wait()

    async def open(self) -> None:
        """Open the spool and the store, and start to reconnect whenever the store fails."""
        # opened again: two tasks must not reconnect the same store
        await self.close()
        await self._outbox.open()
        try:
            await self._open_inner()
        except StoreError as failed:
            if not self._may_start_without:
                await self._outbox.close()
                raise
            self._outbox.failed(failed)
        if self.is_degraded:
            # an earlier process may have left calls in the spool
            self._outbox.has_work.set()
        self._reconnecting = asyncio.create_task(self._reconnect_when_needed())

    async def close(self) -> None:
        """Send the calls of the spool if the store works; those in a spool without a file are lost."""
        if self._reconnecting is None:
            return
        # first, so that no further send starts; the one that was started is awaited below
        self._reconnecting.cancel()
        with suppress(asyncio.CancelledError):
            await self._reconnecting
        self._reconnecting = None
        await self._outbox.finish_putting()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if len(self._outbox) > 0:
            await self._try_to_send()
        if len(self._outbox) > 0:
            await self._outbox.leave()
        await self._inner.close()
        await self._outbox.close()

    async def migrate(self) -> list[str]:
        """Migrate the store."""
        return await self._inner.migrate()

    async def check(self) -> StoreHealth:
        """Check the store, not the spool."""
        return await self._inner.check()

    async def _open_inner(self) -> None:
        await self._inner.open()
        self.cache.read_secret()

    async def _reconnect_when_needed(self) -> None:
        while True:
            await self._outbox.has_work.wait()
            self._outbox.has_work.clear()
            while not await self._send_undisturbed():
                await self._clock.sleep(self._retry_seconds)

    async def _send_undisturbed(self) -> bool:
        """Finish a send that was started, or the counters would not show where calls are."""
        self._sending = asyncio.create_task(self._try_to_send())
        return await asyncio.shield(self._sending)

    async def _try_to_send(self) -> bool:
        """Reconnect if needed and send the calls of the spool; return whether all were sent."""
        try:
            if self._outbox.fault is not None:
                await self._open_inner()
                # a full or read-only database can be opened: only a write shows that it works
                await self._inner.check()
            all_sent = await self._outbox.send(self._inner.log)
        except StoreError as failed:
            self._outbox.failed(failed)
            return False
        if all_sent:
            self._is_healthy.set()
        return all_sent
