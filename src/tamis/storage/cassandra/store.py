"""The store on a cluster. Knows when to ask its neighbours for what; tables and driver are theirs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from cassandra.cluster import Session

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.storage.base import (
    NO_ANSWERS,
    PAGE_ROWS,
    Answers,
    CallQuery,
    Health,
    HourCount,
    Page,
    Scores,
    Store,
    StoreOptions,
    check_calls,
)
from tamis.storage.cassandra.bridge import Bridge
from tamis.storage.cassandra.cache import AnswerTable
from tamis.storage.cassandra.connect import connect, disconnect
from tamis.storage.cassandra.log import CallLog
from tamis.storage.cassandra.migrating import make_tables, read_meta, remember_once
from tamis.storage.cassandra.prepared import Prepared, prepare
from tamis.storage.cassandra.target import Target
from tamis.storage.expiry import SteadySeconds
from tamis.storage.keys import KEY_BYTES, TimeIds, decode_cursor, ticks_of
from tamis.types import CallRecord


@dataclass(frozen=True, slots=True)
class _Opened:
    """All that belongs to one connection, and goes with it."""

    session: Session
    prepared: Prepared
    bridge: Bridge
    log: CallLog
    cache: AnswerTable
    secret: bytes
    version: int


@final
class CassandraStore(Store):
    """Calls and answers in one keyspace that any number of machines share."""

    def __init__(self, target: Target, clock: Clock, options: StoreOptions | None = None):
        self._target = target
        self._options = options or StoreOptions()
        self._clock = clock
        self._steady = SteadySeconds(clock)
        self._now: _Opened | None = None

    async def open(self) -> None:
        """Connect and check the tables; a connection that works is kept, for the driver mends it."""
        if self._now is not None:
            with suppress(StoreError):
                await self.check()
                return
        await self.close()
        session = await self._in_time(connect)
        try:
            self._now = await self._prepared(session)
        except StoreError:
            await asyncio.to_thread(disconnect, session)
            raise

    async def close(self) -> None:
        """Disconnect."""
        opened, self._now = self._now, None
        if opened is not None:
            await asyncio.to_thread(disconnect, opened.session)

    async def migrate(self) -> None:
        """Make keyspace and tables, or bring them up to date."""
        session = await self._in_time(connect)
        try:
            await asyncio.to_thread(make_tables, session, self._target, self._options)
        finally:
            await asyncio.to_thread(disconnect, session)

    async def check(self) -> Health:
        """Write the time of this check."""
        opened = self._opened()
        await opened.bridge.execute(
            opened.prepared.write_meta.bind(("checked_at", str(self._steady.now()))),
            seconds=self._options.cluster.deadline_seconds,
        )
        return Health(self._target.name, opened.version)

    @property
    def secret(self) -> bytes:
        """The key that was made when the tables were first opened."""
        return self._opened().secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Ask one replica for each key."""
        return await self._opened().cache.get_many(keys)

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Write calls and answers side by side."""
        check_calls(calls)
        opened = self._opened()
        if answers:
            await asyncio.gather(opened.log.append(calls), opened.cache.put_many(answers))
        else:
            await opened.log.append(calls)

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Merge the shards of one hour after the other."""
        behind = None if after is None else decode_cursor(after)
        return await self._opened().log.page(query, behind, limit)

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count the rows: counters would count a call twice that is sent twice."""
        return await self._opened().log.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        """Delete hour by hour; every caller's partitions are looked at."""
        return await self._opened().log.delete(CallQuery(until=moment), self._ticks())

    async def delete_caller(self, caller: str) -> int:
        """Delete the partitions of one caller."""
        return await self._opened().log.delete(CallQuery(caller=caller), self._ticks())

    def _opened(self) -> _Opened:
        if self._now is None:
            raise StoreError(f"{self._target.name}: the store is not open", fault="unavailable")
        return self._now

    def _ticks(self) -> int:
        return ticks_of(TimeIds(self._clock).next())

    async def _in_time(self, opening: Any) -> Session:
        """Open in a thread; one that comes too late closes what it opened."""
        task = asyncio.create_task(asyncio.to_thread(opening, self._target, self._options.cluster))
        try:
            async with asyncio.timeout(self._options.cluster.connect_seconds):
                session: Session = await asyncio.shield(task)
                return session
        except (TimeoutError, asyncio.CancelledError) as late:
            task.add_done_callback(_close_late)
            if isinstance(late, TimeoutError):
                seconds = self._options.cluster.connect_seconds
                message = f"{self._target.name}: cannot connect within {seconds:g} s"
                raise StoreError(message, fault="timeout") from None
            raise

    async def _prepared(self, session: Session) -> _Opened:
        cluster = self._options.cluster
        meta = await asyncio.to_thread(read_meta, session, self._target)
        secret = meta.get("secret")
        if secret is None:
            new = ("secret", os.urandom(KEY_BYTES).hex())
            secret = await asyncio.to_thread(remember_once, session, self._target, new)
        prepared = await asyncio.to_thread(prepare, session, self._target.keyspace, cluster)
        bridge = Bridge(session, self._target.name)
        return _Opened(
            session,
            prepared,
            bridge,
            CallLog(bridge, prepared, seconds=cluster.deadline_seconds),
            AnswerTable(
                bridge, prepared, self._steady, options=cluster, cache_seconds=self._options.cache_seconds
            ),
            bytes.fromhex(secret),
            int(meta["schema_version"]),
        )


def _close_late(task: asyncio.Task[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, disconnect, task.result())
