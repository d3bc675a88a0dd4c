"""The store in one SQLite file: its three parts share one session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic, final

import apsw

from tamis.clock import LOOP_IO, Clock
from tamis.errors import StoreError
from tamis.storage.base import (
    PAIR_COLUMNS,
    Answers,
    CallLog,
    FeedbackLog,
    HourCount,
    LabelPairCount,
    PartialCounts,
    PredictionCache,
    RecordLog,
    Scores,
    Store,
    StoreHealth,
    StoreOptions,
)
from tamis.storage.query import PAGE_CHARS, PAGE_ROWS, LogQuery, Page, Span, decode_cursor, encode_cursor
from tamis.storage.rows import CallRecord, FeedbackRecord, Record, check_calls, check_feedback
from tamis.storage.sqlite.connection import DatabaseFile, transaction
from tamis.storage.sqlite.schema import version_of
from tamis.storage.sqlite.session import SessionKeeper
from tamis.storage.sqlite.table import CALLS, FEEDBACK, Table, put_feedback

# a search that finds nothing returns an empty page with a cursor after this many steps
_STEPS_OF_A_PAGE = 50


class _SqliteLog(RecordLog[Record], Generic[Record]):
    """The records of one table, read and deleted in short steps, each a transaction of its own."""

    def __init__(self, keeper: SessionKeeper, table: Table[Record]):
        self._keeper, self._table = keeper, table

    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[Record]:
        """Read in steps until the page is full."""
        reader = self._keeper.current.reader
        rest = Span.of(query, None if after is None else decode_cursor(after))
        found: list[Record] = []
        room = PAGE_CHARS
        for _ in range(_STEPS_OF_A_PAGE):
            step = await reader.run(self._table.read_step(query, rest, limit - len(found), room))
            found += step.rows
            room -= sum(len(row.text) for row in step.rows)
            if step.left is None:
                return Page(found, None)
            rest = step.left
            if len(found) == limit or room <= 0:
                break
        return Page(found, encode_cursor(rest.position))

    async def find(self, id: bytes, *, caller: str | None = None) -> Record | None:
        """Read one row by its primary key."""
        reader = self._keeper.current.reader
        found = await reader.run(lambda connection: self._table.find(connection, "id = ?", (id,)))
        return found if found is not None and caller in (None, found.caller) else None

    async def delete_before(self, moment: datetime) -> int:
        """Delete a thousand rows at a time; writers go between."""
        return await self._delete(LogQuery(until=moment))

    async def delete_caller(self, caller: str) -> int:
        """Delete a thousand rows at a time, and overwrite what they held."""
        return await self._delete(LogQuery(caller=caller))

    async def _delete(self, query: LogQuery) -> int:
        session, step = self._keeper.current, self._table.delete_step(query)
        total, more = 0, True
        while more:
            deleted, more = await session.writer.run(step)
            total += deleted
        await session.checkpointer.truncate()  # the deleted texts must not live on in the WAL
        return total

    async def _counts(self, query: LogQuery, columns: Sequence[str]) -> PartialCounts:
        """Count hour by hour, large hours in parts."""
        reader = self._keeper.current.reader
        rest: Span | None = Span.of(query)
        while rest is not None:
            step = await reader.run(self._table.count_step(query, rest, columns))
            yield step.ticks, step.counts
            rest = step.left


@final
class SqliteCallLog(_SqliteLog[CallRecord], CallLog):
    """The table `calls`."""

    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Commit the calls, with those that wait for the writer's thread."""
        check_calls(calls)
        if not calls:
            return
        keeper = self._keeper
        # while the file is being reopened: wait for that
        session = keeper.now if keeper.now is not None else await keeper.reopened(None)
        try:
            await session.commit.commit(calls)
        except StoreError:
            # a lost WAL can be rescued, and then the file takes the calls; any other fault goes to the spool
            if not session.files.has_lost_companions:
                raise
            session = await keeper.reopened(session)
            await session.commit.commit(calls)

    async def summary(self, query: LogQuery) -> list[HourCount]:
        """Count by label."""
        return await HourCount.sums(self._counts(query, ["label"]))


@final
class SqliteFeedbackLog(_SqliteLog[FeedbackRecord], FeedbackLog):
    """The table `feedback`."""

    async def put(self, feedback: FeedbackRecord) -> FeedbackRecord:
        """Insert or revise in one transaction of the writer's thread."""
        check_feedback(feedback)
        session, step = self._keeper.current, put_feedback(feedback)

        def put(connection: apsw.Connection) -> FeedbackRecord:
            session.files.require_in_place()
            # looked at before, and again after: feedback in a removed file would be lost with the process
            row = step(connection)
            session.files.require_in_place()
            return row

        return await session.writer.run(put)

    async def pair_counts(self, query: LogQuery) -> list[LabelPairCount]:
        """Count by model, version and labels."""
        return await LabelPairCount.sums(self._counts(query, PAIR_COLUMNS))


@final
class SqliteCache(PredictionCache):
    """Files beside the database."""

    def __init__(self, keeper: SessionKeeper):
        self._keeper = keeper

    @property
    def secret(self) -> bytes:
        """The key that was made with the file."""
        return self._keeper.current.secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look the keys up on the loop's own thread: nothing there waits, also while it is reopened."""
        if self._keeper.is_reopening:
            return [None] * len(keys)
        with LOOP_IO:  # a read waits for no lock, but may for the disk
            return self._keeper.current.cache.get_many(keys)

    async def put_many(self, answers: Answers) -> None:
        """Keep the answers in memory until they are written, some milliseconds later."""
        if not self._keeper.is_reopening:
            self._keeper.current.cache.put_many(answers)


@final
class SqliteStore(Store):
    """Calls and feedback in a file, and answers beside it, which processes of one machine may share."""

    log: SqliteCallLog

    def __init__(self, path: Path, clock: Clock, options: StoreOptions | None = None):
        options = options or StoreOptions()
        self._keeper = SessionKeeper(DatabaseFile(path, options.full_durability), clock, options)
        self.log = SqliteCallLog(self._keeper, CALLS)
        self.cache = SqliteCache(self._keeper)
        self.feedback = SqliteFeedbackLog(self._keeper, FEEDBACK)

    @property
    def default_retention_days(self) -> int:
        """The days that were written into the file when it was created."""
        return self._keeper.current.retention_days

    async def open(self) -> None:
        """Create the file if it is missing, migrate its tables and connect."""
        await self._keeper.open()

    async def close(self) -> None:
        """Commit what is waiting and close the file."""
        await self._keeper.close()

    async def migrate(self) -> list[str]:
        """Do what `open` does: it migrates the tables of an embedded store."""
        was_open = self._keeper.now is not None
        session = await self._keeper.open()
        if not was_open:
            await self.close()
        return session.migrations

    async def check(self) -> StoreHealth:
        """Write the time of this check into the file."""
        session, seconds = self._keeper.current, self._keeper.steady.now()

        def touch(connection: apsw.Connection) -> int:
            # by `stat`, not by inotify: a check must notice what inotify cannot report
            session.files.require_same()
            with transaction(connection):
                connection.execute(
                    "INSERT OR REPLACE INTO meta (name, value) VALUES ('checked_at', ?)",
                    (str(seconds).encode(),),
                )
            session.files.require_same()
            return version_of(connection)

        return StoreHealth(f"sqlite:{self._keeper.path}", await session.writer.run(touch))

    async def checkpoint(self) -> None:
        """Write the WAL back now; the checkpointer does so by itself from time to time."""
        await self._keeper.current.checkpointer.run()
