"""The store on a cluster: its connection, and the prediction cache in the table `answers`.

The cache holds no text. Entries expire by the store's steady clock, as in every store; the table's TTL,
which follows the nodes' clocks, ends an hour later and only frees the space.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import final

from cassandra.cluster import Session

from tamis.clock import Clock, SteadyClock
from tamis.errors import StoreError
from tamis.storage.base import (
    Answers,
    ClusterOptions,
    PredictionCache,
    Scores,
    Store,
    StoreHealth,
    StoreOptions,
)
from tamis.storage.cassandra.async_session import AsyncSession
from tamis.storage.cassandra.connect import ClusterUrl, connect, disconnect
from tamis.storage.cassandra.migrations import migrate, put_once, read_meta
from tamis.storage.cassandra.record_logs import ClusterCallLog, ClusterFeedbackLog
from tamis.storage.cassandra.statements import ClusterConnection, Connected, prepare
from tamis.storage.cassandra.tables import CALLS, FEEDBACK
from tamis.storage.ids import KEY_BYTES

# the TTL only removes rows, `expires_at` decides: it must not be earlier when clocks differ
_EXTRA_TTL_SECONDS = 3_600
# keys, the oldest are forgotten first
_MAX_MISSING = 10_000

_logger = logging.getLogger(__name__)


@final
class ClusterCache(PredictionCache):
    """The table `answers`."""

    def __init__(
        self,
        connection: ClusterConnection,
        steady: SteadyClock,
        *,
        options: ClusterOptions,
        cache_seconds: float,
    ):
        self._connection, self._steady = connection, steady
        self._options, self._cache_seconds = options, cache_seconds
        self._missing: dict[bytes, None] = {}

    @property
    def secret(self) -> bytes:
        """The key that was made when the tables were first opened."""
        return self._connection.current.secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look up every key on one replica; a lookup that times out is a miss."""
        distinct = list(dict.fromkeys(keys))
        # a list may have the same text several times: one look-up for each key
        found = dict(zip(distinct, await asyncio.gather(*map(self._get, distinct)), strict=True))
        self._missing.update(dict.fromkeys(key for key in distinct if found[key] is None))
        # bounded: not every key that is missed is stored later
        while len(self._missing) > _MAX_MISSING:
            del self._missing[next(iter(self._missing))]
        return [found[key] for key in keys]

    async def put_many(self, answers: Answers) -> None:
        """Store answers under keys without one; keys that were just missed are not looked up again."""
        unsure = [key for key in answers if key not in self._missing]
        live = await self.get_many(unsure)
        in_use = {key for key, scores in zip(unsure, live, strict=True) if scores is not None}
        await asyncio.gather(*(self._put(key, answers[key]) for key in answers if key not in in_use))
        for key in answers:
            self._missing.pop(key, None)

    async def _get(self, key: bytes) -> Scores | None:
        try:
            found = await self._connection.current.session.execute(
                self._connection.current.statements.read_answer.bind((key,)),
                seconds=self._options.cache_deadline_seconds,
            )
        except StoreError as failed:
            if failed.__cause__ is None:  # timed out: computing the answer is faster
                _logger.debug("cache lookup timed out: %s", failed)
                return None
            raise
        for scores, expires_at in found.rows:
            if expires_at > self._steady.now():
                return dict(scores)
        return None

    async def _put(self, key: bytes, scores: Scores) -> None:
        expires_at = int(self._steady.now() + self._cache_seconds)
        life_seconds = int(self._cache_seconds) + _EXTRA_TTL_SECONDS
        await self._connection.current.session.execute(
            self._connection.current.statements.insert_answer.bind((key, scores, expires_at, life_seconds)),
            seconds=self._options.deadline_seconds,
        )


@final
class CassandraStore(Store):
    """Calls, answers and feedback in one keyspace that any number of machines share."""

    def __init__(self, url: ClusterUrl, clock: Clock, options: StoreOptions | None = None):
        self._url = url
        self._options = options = options or StoreOptions()
        self._steady = SteadyClock(clock)
        self._connection = ClusterConnection(url.name)
        cluster = options.cluster
        seconds = cluster.deadline_seconds
        self.log = ClusterCallLog(self._connection, CALLS, clock=clock, seconds=seconds)
        self.cache = ClusterCache(
            self._connection, self._steady, options=cluster, cache_seconds=options.cache_seconds
        )
        self.feedback = ClusterFeedbackLog(self._connection, FEEDBACK, clock=clock, seconds=seconds)

    async def open(self) -> None:
        """Connect and check the tables; a connection that works is kept, because the driver repairs it."""
        if self._connection.now is not None:
            # a connection that fails its check is replaced below
            with suppress(StoreError):
                await self.check()
                return
        await self.close()
        driver = await self._connect()
        try:
            self._connection.now = await self._prepared(driver)
        except StoreError:
            await asyncio.to_thread(disconnect, driver)
            raise

    async def close(self) -> None:
        """Disconnect."""
        connected, self._connection.now = self._connection.now, None
        if connected is not None:
            await asyncio.to_thread(disconnect, connected.driver)

    async def migrate(self) -> list[str]:
        """Create the keyspace and its tables, or upgrade them."""
        driver = await self._connect()
        try:
            return await asyncio.to_thread(migrate, driver, self._url, self._options)
        finally:
            await asyncio.to_thread(disconnect, driver)

    async def check(self) -> StoreHealth:
        """Write the time of this check."""
        connected = self._connection.current
        await connected.session.execute(
            connected.statements.write_meta.bind(("checked_at", str(self._steady.now()))),
            seconds=self._options.cluster.deadline_seconds,
        )
        return StoreHealth(self._url.name, connected.version)

    async def _connect(self) -> Session:
        """Connect in a thread; a connection that comes too late is closed."""
        task = asyncio.create_task(asyncio.to_thread(connect, self._url, self._options.cluster))
        try:
            async with asyncio.timeout(self._options.cluster.connect_seconds):
                # the thread cannot be cancelled: its connection is closed when it arrives
                session: Session = await asyncio.shield(task)
                return session
        except (TimeoutError, asyncio.CancelledError) as late:
            task.add_done_callback(_close_late)
            if isinstance(late, TimeoutError):
                seconds = self._options.cluster.connect_seconds
                message = f"{self._url.name}: cannot connect within {seconds:g} s"
                raise StoreError(message, fault="timeout") from None
            raise

    async def _prepared(self, driver: Session) -> Connected:
        meta = await asyncio.to_thread(read_meta, driver, self._url)
        secret = meta.get("secret")
        if secret is None:
            new = ("secret", os.urandom(KEY_BYTES).hex())
            secret = await asyncio.to_thread(put_once, driver, self._url, new)
        statements = await asyncio.to_thread(prepare, driver, self._url.keyspace, self._options.cluster)
        return Connected(
            driver,
            AsyncSession(driver, self._url.name),
            statements,
            bytes.fromhex(secret),
            int(meta["schema_version"]),
        )


def _close_late(task: asyncio.Task[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, disconnect, task.result())
