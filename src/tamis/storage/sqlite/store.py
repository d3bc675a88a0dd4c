"""The store in one SQLite file. Knows when to ask SQLite for what; the SQL is its neighbours'."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import final

import apsw

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.records import CallRecord
from tamis.storage.base import (
    NO_ANSWERS,
    PAGE_CHARS,
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
from tamis.storage.expiry import SteadySeconds
from tamis.storage.io_time import LOOP_IO
from tamis.storage.keys import called_at, decode_cursor, encode_cursor, first_id
from tamis.storage.sqlite import log
from tamis.storage.sqlite.cache import Cache
from tamis.storage.sqlite.cache_writer import CacheWriter
from tamis.storage.sqlite.commit import GroupCommit
from tamis.storage.sqlite.connection import File, Worker, close_quietly, transaction
from tamis.storage.sqlite.schema import migrate, version_of
from tamis.storage.sqlite.upkeep import Upkeep

_STEPS_OF_A_PAGE = 50
_UPKEEP_LOCK_SECONDS = 0.1

_NEW_ANSWERS_SECONDS = 0.005
_MOST_NEW_ANSWERS = 256
"""So many answers, for so long, are known in memory alone where one process is alone with the store."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """All that belongs to one opening of the file, and goes when it is closed."""

    identity: tuple[int, int]
    secret: bytes
    here: apsw.Connection
    """The loop's own connection: it never waits for a lock."""
    cache: Cache
    cache_writer: CacheWriter
    commit: GroupCommit
    upkeep: Upkeep
    writer: Worker
    reader: Worker

    async def close(self) -> None:
        await self.commit.finish()
        await self.cache_writer.close()
        await self.upkeep.close()
        await self.reader.close()
        # not on the loop: whoever closes a file last writes back its whole WAL
        await self.writer.run(lambda _: close_quietly(self.here))
        await self.writer.close()


@final
class SqliteStore(Store):
    """Calls in a file, and answers beside it, that several processes of one machine may share."""

    def __init__(self, path: Path, clock: Clock, options: StoreOptions | None = None):
        self._options = options or StoreOptions()
        self._file = File(path, self._options.full_durability)
        self._clock = clock
        self._steady = SteadySeconds(clock)
        self._now: _Opened | None = None
        self._is_writing_planned = False

    async def open(self) -> None:
        """Create the file if it is missing, bring its tables up to date and connect."""
        await self.close()
        await asyncio.to_thread(self._file.create_if_missing)
        identity = self._file.identity()
        writer, reader = Worker("write", self._connect), Worker("read", self._connect)
        # waits briefly: a checkpoint that waits for a reader keeps all writers waiting
        checkpointer = Worker("upkeep", lambda: self._file.connect(lock_seconds=_UPKEEP_LOCK_SECONDS))
        cache = Cache(self._file.path, self._options.cache_rows, is_alone=self._options.is_alone)
        cache_writer = CacheWriter(cache, self._steady.now)
        try:
            secret = await writer.run(_prepare)
            await cache_writer.open()
            here = await writer.run(lambda _: self._connect())
        except StoreError:
            await cache_writer.close()
            await writer.close()
            raise
        here.set_busy_handler(None)
        upkeep = Upkeep(checkpointer)
        commit = GroupCommit(
            here, writer, self._write, clock=self._clock, only_threaded=self._options.full_durability
        )
        await writer.run(upkeep.watch)
        upkeep.watch(here)
        self._now = _Opened(identity, secret, here, cache, cache_writer, commit, upkeep, writer, reader)

    async def close(self) -> None:
        """Commit what is waiting and let go of the file."""
        opened, self._now = self._now, None
        if opened is not None:
            await opened.close()

    async def migrate(self) -> None:
        """Do what `open` does: the tables of an embedded store follow the program."""
        was_open = self._now is not None
        await self.open()
        if not was_open:
            await self.close()

    async def check(self) -> Health:
        """Write the time of this check into the file."""
        seconds = self._steady.now()

        def touch(connection: apsw.Connection) -> int:
            self._require_same_file()
            with transaction(connection):
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('checked_at', ?)", (str(seconds).encode(),)
                )
            return version_of(connection)

        return Health(f"sqlite:{self._file.path}", await self._opened().writer.run(touch))

    @property
    def secret(self) -> bytes:
        """The key that was made with the file."""
        return self._opened().secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look the keys up on the loop's own thread: reading waits for no lock."""
        with LOOP_IO:
            return self._opened().cache.look_up(keys, self._steady.now())

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Commit the calls, with those that wait for the writer's thread, and remember the answers."""
        check_calls(calls)
        opened = self._opened()
        if calls:
            await opened.commit.commit(calls)
        if answers:
            n_new = opened.cache.remember(answers, self._steady.now(), self._options.cache_seconds)
            if not self._options.is_alone or n_new >= _MOST_NEW_ANSWERS:
                opened.cache_writer.start()
            elif not self._is_writing_planned:
                self._is_writing_planned = True
                asyncio.get_running_loop().call_later(_NEW_ANSWERS_SECONDS, self._write_waiting_answers)

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Read in short steps, each a transaction of its own."""
        reader = self._opened().reader
        left = log.Span.of(query, None if after is None else decode_cursor(after))
        found: list[CallRecord] = []
        room = PAGE_CHARS
        for _ in range(_STEPS_OF_A_PAGE):
            step = await reader.run(log.read_step(query, left, limit - len(found), room))
            found += step.calls
            room -= sum(len(call.text) for call in step.calls)
            if step.left is None:
                return Page(found, None)
            left = step.left
            if len(found) == limit or room <= 0:
                break
        return Page(found, encode_cursor(left.high if query.newest_first else left.low[:-1]))

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count hour by hour, large hours in parts."""
        reader = self._opened().reader
        counts: Counter[tuple[int, str]] = Counter()
        left: log.Span | None = log.Span.of(query, None)
        while left is not None:
            some, left = await reader.run(log.count_step(query, left))
            for count in some:
                counts[count.ticks, count.label] += count.count
        return [
            HourCount(called_at(first_id(ticks)), label, counts[ticks, label])
            for ticks, label in sorted(counts)
        ]

    async def delete_before(self, moment: datetime) -> int:
        """Delete a thousand rows at a time; writers go between."""
        return await self._delete(CallQuery(until=moment))

    async def delete_caller(self, caller: str) -> int:
        """Delete a thousand rows at a time, and overwrite what they held."""
        return await self._delete(CallQuery(caller=caller))

    async def tidy(self) -> None:
        """Write the WAL back now; it is done by itself from time to time."""
        await self._opened().upkeep.run()

    async def _delete(self, query: CallQuery) -> int:
        opened, step = self._opened(), log.delete_step(query)
        total, more = 0, True
        while more:
            deleted, more = await opened.writer.run(step)
            total += deleted
        await opened.upkeep.truncate()  # the deleted texts must not live on in the WAL
        return total

    def _opened(self) -> _Opened:
        if self._now is None:
            raise StoreError(f"{self._file.path}: the store is not open", fault="unavailable")
        return self._now

    def _write_waiting_answers(self) -> None:
        self._is_writing_planned = False
        if self._now is not None:
            self._now.cache_writer.start()

    def _connect(self) -> apsw.Connection:
        return self._file.connect(lock_seconds=self._options.lock_seconds)

    def _write(self, connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
        self._require_same_file()
        log.insert(connection, calls)

    def _require_same_file(self) -> None:
        """Refuse to write into a file that nobody can find any more: SQLite would not notice."""
        if self._now is not None and self._file.identity() != self._now.identity:
            raise StoreError(f"{self._file.path}: the file was replaced by another one", fault="missing")


def _prepare(connection: apsw.Connection) -> bytes:
    connection.execute("PRAGMA secure_delete = ON")  # this connection is the one that deletes
    migrate(connection)
    secret: bytes = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    return secret
