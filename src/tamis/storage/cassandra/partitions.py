"""Where rows are, and how the pages of several partitions are read as one sequence.

A partition is one shard of one caller's UTC hour. Two small tables index them: in which hours a caller, or
any caller, has rows; and which callers have rows in an hour.

    partitions ─► the next row of each ─► heap by id ─► the first row: yield it ─► the next of its partition
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final
from uuid import UUID

from tamis.storage.cassandra.async_session import AsyncSession
from tamis.storage.cassandra.statements import ClusterConnection, LogStatements
from tamis.storage.ids import (
    TICKS_PER_HOUR,
    as_uuid,
    first_id,
    first_id_at,
    from_uuid,
    hour_ticks,
    moment,
    ticks_of,
)
from tamis.storage.query import LogQuery, Span

_LOWEST_TAIL = b"\x80" * 8  # Cassandra compares these bytes as signed numbers
# all partitions at once would fill the session's queue and starve writes
_FILLED_AT_ONCE = 128
# entries; when there are more all are forgotten, and written once more
_KNOWN_HOURS = 10_000
_CALLERS_AT_ONCE = 1_000
# reading so few partitions that may be empty is cheaper than the index
_HOURS_WITHOUT_INDEX = 3

CallerHour = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Partition:
    """One shard of one caller's hour; `hour` in ticks."""

    caller: str
    hour: int
    shard: int

    @classmethod
    def of(cls, caller: str, time_id: bytes, *, shards: int) -> Partition:
        """Return the partition of a row."""
        return cls(caller, hour_ticks(time_id), shard_of(time_id, shards))

    @property
    def key(self) -> tuple[object, ...]:
        """The values of the partition key."""
        return self.caller, moment(self.hour), self.shard


def shard_of(time_id: bytes, shards: int) -> int:
    """Return the shard of a row; it depends on the id only, so a row that is sent twice is one row."""
    return zlib.crc32(time_id) % shards


def ticks_at(hour: datetime) -> int:
    """Return the ticks of an hour as the driver gives it, without a time zone."""
    return ticks_of(first_id_at(hour.replace(tzinfo=UTC)))


def lowest_uuid(ticks: int) -> UUID:
    """Return the UUID that Cassandra sorts before all of these ticks or later."""
    return as_uuid(ticks.to_bytes(8, "big") + _LOWEST_TAIL)


def within(span: Span, hour: int) -> tuple[UUID, UUID]:
    """Return the ends of the part of `span` that is in one hour; a row at them may be outside of the span."""
    low, high = span.ticks
    return lowest_uuid(max(low, hour)), lowest_uuid(min(high, hour + TICKS_PER_HOUR))


def hours_of(span: Span) -> Iterator[int]:
    """Yield the hours of a span in its order, whether they have rows or not."""
    low, high = span.ticks
    hours = range(low // TICKS_PER_HOUR * TICKS_PER_HOUR, high, TICKS_PER_HOUR)
    return iter(reversed(hours)) if span.newest_first else iter(hours)


def position_after(hour: int, *, newest_first: bool) -> bytes:
    """Return the position when an hour and all before it, in a span's order, have been read."""
    return first_id(hour if newest_first else hour + TICKS_PER_HOUR)


@final
class HourIndex:
    """Finds the partitions of a query.

    A process writes an hour's entries with its first row of that hour and then remembers that it did. An
    entry may lead to no row; a row without an entry is only found by its caller and hour.
    """

    def __init__(self, connection: ClusterConnection, table: str, *, seconds: float):
        self._connection, self._table, self._seconds = connection, table, seconds
        self._known: set[CallerHour] = set()

    async def add(self, caller_hours: Iterable[CallerHour]) -> None:
        """Write the entries of hours that this process has not yet written."""
        new = {one for one in caller_hours if one not in self._known}
        if not new:
            return
        await asyncio.gather(*(self._write(caller, hour) for caller, hour in new))
        # known only now: an entry whose write failed is written again
        if len(self._known) > _KNOWN_HOURS:
            self._known.clear()
        self._known |= new

    async def hours(self, query: LogQuery, span: Span, limit: int) -> list[int]:
        """Return the first hours, at most `limit`, that may have rows of `query`."""
        low, high = span.ticks
        if query.caller is not None and high - low <= _HOURS_WITHOUT_INDEX * TICKS_PER_HOUR:
            return list(hours_of(span))
        ends = moment(low // TICKS_PER_HOUR * TICKS_PER_HOUR), moment(high)
        read = self._statements.read_hours[span.newest_first].bind(
            (query.caller is None, query.caller or "", *ends, limit)
        )
        pages = self._session.pages(read, seconds=self._seconds)
        return [ticks_at(hour) async for rows in pages for (hour,) in rows]

    async def callers(self, hour: int) -> AsyncIterator[list[str]]:
        """Yield the callers of one hour, some at a time."""
        read = self._statements.read_callers.bind((moment(hour),))
        read.fetch_size = _CALLERS_AT_ONCE
        async for rows in self._session.pages(read, seconds=self._seconds):
            yield [caller for (caller,) in rows]

    async def remove(self, caller: str, hour: int) -> None:
        """Delete the entries of one caller's hour."""
        # or the next row of that hour would have no entry
        self._known.discard((caller, hour))
        await self._run(self._statements.delete_hour, (False, caller, moment(hour)))
        await self._run(self._statements.delete_caller_of_hour, (moment(hour), caller))

    async def remove_hour(self, hour: int) -> None:
        """Delete the entry that some caller has rows in an hour."""
        await self._run(self._statements.delete_hour, (True, "", moment(hour)))

    @property
    def _session(self) -> AsyncSession:
        return self._connection.current.session

    @property
    def _statements(self) -> LogStatements:
        return self._connection.current.statements.logs[self._table]

    async def _write(self, caller: str, hour: int) -> None:
        at = moment(hour)
        await asyncio.gather(
            self._run(self._statements.insert_hour, (True, "", at)),
            self._run(self._statements.insert_hour, (False, caller, at)),
            self._run(self._statements.insert_caller, (at, caller)),
        )

    async def _run(self, prepared: Any, values: tuple[object, ...]) -> None:
        await self._session.execute(prepared.bind(values), seconds=self._seconds)


@final
class PartitionReader:
    """The rows of one partition, of which a bounded number is in memory; each row begins with its id."""

    def __init__(self, partition: Partition, pages: AsyncIterator[list[tuple[Any, ...]]]):
        self.partition, self._pages = partition, pages
        self._rows: deque[tuple[Any, ...]] = deque()

    async def fill(self) -> None:
        """Fetch rows if there are none; there are still none at the end."""
        if not self._rows:
            async for rows in self._pages:
                self._rows.extend(rows)
                return

    def next(self) -> tuple[Any, ...] | None:
        """Return the next row, None if `fill` found no more."""
        return self._rows.popleft() if self._rows else None


async def merged(
    readers: Sequence[PartitionReader], *, newest_first: bool
) -> AsyncIterator[tuple[Partition, tuple[Any, ...]]]:
    """Yield the rows of all partitions in the order of their ids."""
    for start in range(0, len(readers), _FILLED_AT_ONCE):
        await asyncio.gather(*(one.fill() for one in readers[start : start + _FILLED_AT_ONCE]))
    heap: list[tuple[int, int, tuple[Any, ...]]] = []

    def push(index: int) -> None:
        row = readers[index].next()
        if row is not None:
            order = int.from_bytes(from_uuid(row[0]), "big")
            # the index decides between equal ids of two callers, because rows cannot be compared
            heapq.heappush(heap, (-order if newest_first else order, index, row))

    for index in range(len(readers)):
        push(index)
    while heap:
        _, index, row = heapq.heappop(heap)
        yield readers[index].partition, row
        # before the next row is chosen: this partition may have it
        await readers[index].fill()
        push(index)
