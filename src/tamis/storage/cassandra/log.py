"""The call log: each caller's hour in a few partitions, merged in order when it is read.

Knows the table `calls`; a partition is one shard of one caller's UTC hour, so none grows without bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, final

from cassandra.query import BatchStatement, BatchType

from tamis.errors import InputError
from tamis.storage.base import PAGE_CHARS, CallQuery, HourCount, Page
from tamis.storage.cassandra.bridge import Bridge
from tamis.storage.cassandra.index import Index
from tamis.storage.cassandra.merge import Partition, merged
from tamis.storage.cassandra.places import (
    Span,
    hour_ticks,
    is_wanted,
    moment,
    searches,
    shard_of,
)
from tamis.storage.cassandra.prepared import Prepared
from tamis.storage.cassandra.schema import SHARDS
from tamis.storage.keys import TICKS_PER_HOUR, as_uuid, encode_cursor, from_uuid
from tamis.types import CallRecord

MAX_CALLERS = 1_000
"""Callers whose calls of one hour are merged where no caller is named."""

_BATCH_ROWS = 50
_BATCH_CHARS = 16_384
_ROWS_OF_A_SEARCH = 20_000
_HOURS_OF_A_PAGE = 100
_HOURS_OF_A_DELETION = 1_000
_ROWS_OF_A_COUNT = 2_000
_MOST_ROWS_AT_ONCE = 200

Place = tuple[str, int, int]
"""Caller, ticks of the hour, shard: one partition."""


@final
class CallLog:
    """Writes, reads, counts and deletes calls."""

    def __init__(self, bridge: Bridge, prepared: Prepared, *, seconds: float):
        self._bridge, self._prepared, self._seconds = bridge, prepared, seconds
        self._index = Index(bridge, prepared, seconds=seconds)

    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Write each call into its partition, and where it can be found."""
        places: defaultdict[Place, list[CallRecord]] = defaultdict(list)
        for call in calls:
            places[call.caller, hour_ticks(call.id), shard_of(call.id)].append(call)
        statements = [one for place, some in places.items() for one in self._insertions(place, some)]
        await asyncio.gather(
            self._index.note((caller, hour) for caller, hour, _ in places), *map(self._run, statements)
        )

    async def page(self, query: CallQuery, after: bytes | None, limit: int) -> Page:
        """Return the next calls, at most `limit`, and where to go on."""
        span = Span.of(query, after)
        hours = await self._index.hours(query, span, _HOURS_OF_A_PAGE)
        found: list[CallRecord] = []
        seen = chars = 0
        for hour in hours:
            async for call in self._calls_of(hour, query, span, limit=limit):
                seen += 1
                if is_wanted(call, query):
                    found.append(call)
                    chars += len(call.text)
                if len(found) == limit or chars >= PAGE_CHARS or seen == _ROWS_OF_A_SEARCH:
                    return Page(found, encode_cursor(call.id))
        if len(hours) < _HOURS_OF_A_PAGE:
            return Page(found, None)
        return Page(found, encode_cursor(span.behind(hours[-1])))

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count by hour and label, without the texts unless they are searched."""
        counts: Counter[tuple[int, str]] = Counter()
        async for hour, caller in self._all_places(query):
            for labels in await asyncio.gather(
                *(self._labels((caller, hour, shard), query) for shard in range(SHARDS))
            ):
                for label, count in labels.items():
                    counts[hour, label] += count
        return [HourCount(moment(hour), label, counts[hour, label]) for hour, label in sorted(counts)]

    async def delete(self, query: CallQuery, now: int) -> int:
        """Delete a caller's calls, or all before a moment, a partition at a time; return how many.

        Entries of the last two hours stay in the index: another process may believe them written.
        """
        span, total = Span.of(query), 0
        hours: set[int] = set()
        async for hour, caller in self._all_places(query):
            places = [(caller, hour, shard) for shard in range(SHARDS)]
            total += sum(await asyncio.gather(*(self._delete(place, query, span) for place in places)))
            if hour + TICKS_PER_HOUR <= min(span.high, now - 2 * TICKS_PER_HOUR):
                await self._index.forget(caller, hour)
                hours.add(hour)
        if query.caller is None:
            await asyncio.gather(*map(self._index.forget_hour, hours))
        return total

    async def _run(self, statement: Any) -> None:
        await self._bridge.execute(statement, seconds=self._seconds)

    def _insertions(self, place: Place, calls: Sequence[CallRecord]) -> Iterable[Any]:
        """Yield what writes calls of one partition: several at a time, as long as they are small."""
        bound = [
            self._prepared.insert_call.bind((*_key(place), as_uuid(call.id), *call[2:])) for call in calls
        ]
        if len(bound) == 1:
            return bound
        batches: list[Any] = []
        room = 0
        for call, insertion in zip(calls, bound, strict=True):
            if not batches or len(batches[-1]) == _BATCH_ROWS or len(call.text) > room:
                batches.append(self._batch())
                room = _BATCH_CHARS
            batches[-1].add(insertion)
            room -= len(call.text)
        return batches

    def _batch(self) -> Any:
        batch = BatchStatement(
            BatchType.UNLOGGED, consistency_level=self._prepared.insert_call.consistency_level
        )
        batch.is_idempotent = True
        return batch

    async def _calls_of(
        self, hour: int, query: CallQuery, span: Span, *, limit: int
    ) -> AsyncIterator[CallRecord]:
        callers = [query.caller] if query.caller is not None else await self._few_callers(hour)
        read = self._prepared.read_calls[True, span.newest_first]
        ends = span.within(hour)
        if searches(query):
            limit = _MOST_ROWS_AT_ONCE * SHARDS
        # half as much again as an equal share: then one look into each partition mostly suffices
        rows = min(_MOST_ROWS_AT_ONCE, 3 * limit // (2 * SHARDS * max(1, len(callers))) + 10)
        partitions = [
            Partition(
                self._bridge, _sized(read.bind((*_key((caller, hour, shard)), *ends)), rows), self._seconds
            )
            for caller in callers
            for shard in range(SHARDS)
        ]
        async for call in merged(partitions, newest_first=span.newest_first):
            if span.holds(call.id):
                yield call

    async def _few_callers(self, hour: int) -> list[str]:
        found: list[str] = []
        async for some in self._index.callers(hour):
            found += some
            if len(found) > MAX_CALLERS:
                message = (
                    f"more than {MAX_CALLERS} callers called in the hour of {moment(hour).isoformat()}: "
                    "a cluster keeps calls by caller, so name one"
                )
                raise InputError("caller_required", message, field="caller")
        return found

    async def _all_places(self, query: CallQuery) -> AsyncIterator[tuple[int, str]]:
        """Yield the caller hours of `query`, which names no order."""
        span: Span | None = Span.of(query)
        while span is not None:
            hours = await self._index.hours(query, span, _HOURS_OF_A_DELETION)
            for hour in hours:
                if query.caller is not None:
                    yield hour, query.caller
                    continue
                async for callers in self._index.callers(hour):
                    for caller in callers:
                        yield hour, caller
            is_done = len(hours) < _HOURS_OF_A_DELETION
            span = None if is_done else Span.of(query, span.behind(hours[-1]))

    async def _labels(self, place: Place, query: CallQuery) -> Counter[str]:
        read = self._prepared.read_calls[query.contains is not None, False]
        span = Span.of(query)
        rows = _MOST_ROWS_AT_ONCE if query.contains is not None else _ROWS_OF_A_COUNT
        bound = _sized(read.bind((*_key(place), *span.within(place[1]))), rows)
        counts: Counter[str] = Counter()
        async for page in self._bridge.pages(bound, seconds=self._seconds):
            calls = (_call(row) for row in page)
            counts.update(call.label for call in calls if is_wanted(call, query))
        return counts

    async def _delete(self, place: Place, query: CallQuery, span: Span) -> int:
        count = (await self._labels(place, query)).total()
        if count == 0:
            return 0
        if span.high >= place[1] + TICKS_PER_HOUR:
            await self._run(self._prepared.delete_partition.bind(_key(place)))
        else:
            await self._run(self._prepared.delete_calls.bind((*_key(place), span.within(place[1])[1])))
        return count


def _key(place: Place) -> tuple[object, ...]:
    caller, hour, shard = place
    return caller, moment(hour), shard


def _sized(statement: Any, rows: int) -> Any:
    statement.fetch_size = rows
    return statement


def _call(row: tuple[Any, ...]) -> CallRecord:
    """Return what a row says; of a light one caller and text stay empty."""
    if len(row) == 3:
        uuid, label, model = row
        return CallRecord(from_uuid(uuid), "", "", label, 0.0, model, False)
    return CallRecord(from_uuid(row[0]), *row[1:])
