"""What both logs on a cluster share: each caller's hour in a few partitions, merged in order when it is read.

    read ─► index: hours ─► hour by hour: up to 64 partitions ─► merged by id, with texts ────────────┐
                                          more ─► merged by id, without texts ─► 64 texts at a time ──┴─► page

A page ends when it is full, after 20,000 rows, or after 100 hours. So what is in memory at once is bounded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic

from tamis.clock import Clock
from tamis.errors import InputError
from tamis.storage.base import PartialCounts, RecordLog
from tamis.storage.cassandra.async_session import AsyncSession
from tamis.storage.cassandra.partitions import (
    HourIndex,
    Partition,
    PartitionReader,
    merged,
    position_after,
    within,
)
from tamis.storage.cassandra.statements import ClusterConnection, LogStatements
from tamis.storage.cassandra.tables import LogTable
from tamis.storage.ids import TICKS_PER_HOUR, TimeIds, as_uuid, hour_ticks, moment, ticks_of
from tamis.storage.query import PAGE_CHARS, PAGE_ROWS, LogQuery, Page, Span, decode_cursor, encode_cursor
from tamis.storage.rows import Record

MAX_CALLERS = 1_000
"""Callers whose rows of one hour are merged if the query names no caller."""

# one request reads no more, even if nothing matches: the client goes on with the cursor
_ROWS_OF_A_SEARCH = 20_000
# hours are read from the index in portions: a quiet caller may have rows in thousands of them
_HOURS_OF_A_PAGE = 100
_HOURS_OF_A_DELETION = 1_000
# rows are fetched without their texts, so a page may have more of them
_ROWS_OF_A_COUNT = 2_000
_MAX_ROWS_AT_ONCE = 200
_MAX_ROWS_AHEAD = 2_048
"""Rows of all partitions that a merge keeps in memory with their texts, or four times as many without."""
_MAX_PARTITIONS_WITH_TEXTS = 64
_TEXTS_AT_ONCE = 64


class ClusterLog(RecordLog[Record], Generic[Record]):
    """Reads, counts and deletes the rows of one log."""

    def __init__(
        self, connection: ClusterConnection, table: LogTable[Record], *, clock: Clock, seconds: float
    ):
        self._connection, self._table = connection, table
        self._clock, self._seconds = clock, seconds
        self.index = HourIndex(connection, table.name, seconds=seconds)

    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[Record]:
        """Merge the partitions of one hour after the other."""
        span = Span.of(query, None if after is None else decode_cursor(after))
        hours = await self.index.hours(query, span, _HOURS_OF_A_PAGE)
        found: list[Record] = []
        seen = chars = 0
        for hour in hours:
            async for id, row in self._rows_of(hour, query, span, limit=limit):
                seen += 1
                if row is not None:
                    found.append(row)
                    chars += len(row.text)
                if len(found) == limit or chars >= PAGE_CHARS or seen == _ROWS_OF_A_SEARCH:
                    return Page(found, encode_cursor(id))
        if len(hours) < _HOURS_OF_A_PAGE:
            return Page(found, None)
        return Page(found, encode_cursor(position_after(hours[-1], newest_first=span.newest_first)))

    async def find(self, id: bytes, *, caller: str | None = None) -> Record | None:
        """Read one row; without a caller, look in the partitions of all callers of its hour."""
        if caller is not None:
            return await self.find_in(self.partition(caller, id), id)
        async for callers in self.index.callers(hour_ticks(id)):
            for start in range(0, len(callers), _TEXTS_AT_ONCE):
                some = [self.partition(one, id) for one in callers[start : start + _TEXTS_AT_ONCE]]
                for row in await asyncio.gather(*(self.find_in(one, id) for one in some)):
                    if row is not None:
                        return row
        return None

    async def delete_before(self, moment: datetime) -> int:
        """Delete hour by hour, the partitions of every caller."""
        return await self._delete(LogQuery(until=moment))

    async def delete_caller(self, caller: str) -> int:
        """Delete the partitions of one caller."""
        return await self._delete(LogQuery(caller=caller))

    async def counts(self, query: LogQuery, columns: Sequence[str]) -> PartialCounts:
        """Yield the counts of each caller's hour by the values of `columns`."""
        async for hour, caller in self._caller_hours(query):
            for counts in await asyncio.gather(
                *(self._counts_in(one, query, columns) for one in self._partitions([caller], hour))
            ):
                yield hour, counts

    async def execute(self, statement: Any) -> Any:
        """Return the result of a bound statement."""
        return await self._session.execute(statement, seconds=self._seconds)

    async def removing(self, caller: str, rows: Sequence[Any]) -> None:
        """Clean up for rows that are about to be deleted; a log with further tables overrides it."""

    def bound_insert(self, partition: Partition, row: Record) -> Any:
        """Return the statement that writes one row into its partition."""
        return self.statements.insert.bind((*partition.key, *self._table.values_of(row)))

    async def _delete(self, query: LogQuery) -> int:
        """Delete a caller's rows, or all before a moment, a partition at a time; return how many.

        Entries of the last two hours stay in the index: another process may rely on them.
        """
        span, total, now = Span.of(query), 0, ticks_of(TimeIds(self._clock).next())
        hours: set[int] = set()
        async for hour, caller in self._caller_hours(query):
            partitions = self._partitions([caller], hour)
            total += sum(await asyncio.gather(*(self._delete_in(one, query, span) for one in partitions)))
            # see above: processes remember which entries they wrote, and write no second one
            if hour + TICKS_PER_HOUR <= min(span.ticks[1], now - 2 * TICKS_PER_HOUR):
                await self.index.remove(caller, hour)
                hours.add(hour)
        if query.caller is None:
            await asyncio.gather(*map(self.index.remove_hour, hours))
        return total

    @property
    def _session(self) -> AsyncSession:
        return self._connection.current.session

    @property
    def statements(self) -> LogStatements:
        """The prepared statements of this log."""
        return self._connection.current.statements.logs[self._table.name]

    def partition(self, caller: str, id: bytes) -> Partition:
        """Return the partition of a caller's row."""
        return Partition.of(caller, id, shards=self._table.shards)

    def _partitions(self, callers: Iterable[str], hour: int) -> list[Partition]:
        return [Partition(one, hour, shard) for one in callers for shard in range(self._table.shards)]

    async def find_in(self, partition: Partition, id: bytes) -> Record | None:
        """Read one row of a partition."""
        read = self.statements.read_one.bind((*partition.key, as_uuid(id)))
        found = await self.execute(read)
        return self._table.record_of(found.rows[0]) if found.rows else None

    async def _rows_of(
        self, hour: int, query: LogQuery, span: Span, *, limit: int
    ) -> AsyncIterator[tuple[bytes, Record | None]]:
        """Yield the ids of one hour in order, each with its row if the query asks for it."""
        callers = [query.caller] if query.caller is not None else await self._few_callers(hour)
        partitions = self._partitions(callers, hour)
        # few partitions: reading texts along is one round trip instead of two
        if len(partitions) <= _MAX_PARTITIONS_WITH_TEXTS:
            async for _, row in self._merged(partitions, span, hour, limit=0 if query.is_search else limit):
                record = self._table.record_of(row)
                if span.holds(record.id):
                    yield record.id, record if query.matches(record) else None
            return
        without_text = replace(query, contains=None)
        group: list[tuple[Partition, bytes, bool]] = []
        async for partition, row in self._merged(partitions, span, hour, limit=limit, with_texts=False):
            light = self._table.light_of(partition.caller, row)
            if span.holds(light.id):
                group.append((partition, light.id, without_text.matches(light)))
            if len(group) == min(limit, _TEXTS_AT_ONCE):
                for found in await self._with_texts(group, query):
                    yield found
                group.clear()
        for found in await self._with_texts(group, query):
            yield found

    async def _with_texts(
        self, group: Sequence[tuple[Partition, bytes, bool]], query: LogQuery
    ) -> list[tuple[bytes, Record | None]]:
        """Fetch the rows of a group that may match, and return those that do."""
        # rows that the light columns exclude need no second read
        candidates = [(partition, id) for partition, id, is_candidate in group if is_candidate]
        fetched = await asyncio.gather(*(self.find_in(partition, id) for partition, id in candidates))
        rows = {row.id: row for row in fetched if row is not None and query.matches(row)}
        return [(id, rows.get(id)) for _, id, _ in group]

    def _merged(
        self, partitions: Sequence[Partition], span: Span, hour: int, *, limit: int, with_texts: bool = True
    ) -> AsyncIterator[tuple[Partition, tuple[Any, ...]]]:
        """Return the rows of some partitions in order; `limit` 0 if more than a page may be read."""
        n_partitions = max(1, len(partitions))
        ahead = _MAX_ROWS_AHEAD if with_texts else 4 * _MAX_ROWS_AHEAD
        rows = max(2, min(_MAX_ROWS_AT_ONCE, ahead // n_partitions))
        if limit:
            # half as much again as an equal share: then one page of each partition mostly suffices
            rows = min(rows, 3 * limit // (2 * n_partitions) + 10)
        read = self.statements.read[with_texts, span.newest_first]
        readers = [
            PartitionReader(
                one,
                self._session.pages(
                    _sized(read.bind((*one.key, *within(span, hour))), rows), seconds=self._seconds
                ),
            )
            for one in partitions
        ]
        return merged(readers, newest_first=span.newest_first)

    async def _few_callers(self, hour: int) -> list[str]:
        found: list[str] = []
        async for some in self.index.callers(hour):
            found += some
            if len(found) > MAX_CALLERS:
                message = (
                    f"more than {MAX_CALLERS} callers in the hour of {moment(hour).isoformat()}; "
                    "set `caller`, by which a cluster partitions the log"
                )
                raise InputError("caller_required", message, field="caller")
        return found

    async def _caller_hours(self, query: LogQuery) -> AsyncIterator[tuple[int, str]]:
        """Yield the hours and callers of `query` that may have rows."""
        query = replace(query, newest_first=False)
        span: Span | None = Span.of(query)
        while span is not None:
            hours = await self.index.hours(query, span, _HOURS_OF_A_DELETION)
            for hour in hours:
                if query.caller is not None:
                    yield hour, query.caller
                    continue
                async for callers in self.index.callers(hour):
                    for caller in callers:
                        yield hour, caller
            is_done = len(hours) < _HOURS_OF_A_DELETION
            span = None if is_done else Span.of(query, position_after(hours[-1], newest_first=False))

    async def _matching(self, partition: Partition, query: LogQuery) -> AsyncIterator[list[Any]]:
        """Yield the matching rows of a partition a page at a time, with texts only if they are searched."""
        with_texts = query.contains is not None
        span = Span.of(replace(query, newest_first=False))
        bound = self.statements.read[with_texts, False].bind((*partition.key, *within(span, partition.hour)))
        rows = _MAX_ROWS_AT_ONCE if with_texts else _ROWS_OF_A_COUNT
        async for page in self._session.pages(_sized(bound, rows), seconds=self._seconds):
            decoded = (
                self._table.record_of(row) if with_texts else self._table.light_of(partition.caller, row)
                for row in page
            )
            yield [row for row in decoded if query.matches(row)]

    async def _counts_in(
        self, partition: Partition, query: LogQuery, columns: Sequence[str]
    ) -> Counter[tuple[str | None, ...]]:
        counts: Counter[tuple[str | None, ...]] = Counter()
        async for rows in self._matching(partition, query):
            counts.update(tuple(getattr(row, name) for name in columns) for row in rows)
        return counts

    async def _delete_in(self, partition: Partition, query: LogQuery, span: Span) -> int:
        count = 0
        async for rows in self._matching(partition, query):
            count += len(rows)
            # before the rows: without them, what belongs to them could not be found again
            await self.removing(partition.caller, rows)
        if count == 0:
            return 0
        # one tombstone for a partition or a range, where deleting rows would leave one for each
        if span.ticks[1] >= partition.hour + TICKS_PER_HOUR:
            await self.execute(self.statements.delete_partition.bind(partition.key))
        else:
            end = within(span, partition.hour)[1]
            await self.execute(self.statements.delete_before.bind((*partition.key, end)))
        return count


def _sized(statement: Any, rows: int) -> Any:
    statement.fetch_size = rows
    return statement
