"""A store in this process's memory, bounded and lost at exit: for trying out and for tests."""

from __future__ import annotations

import asyncio
import os
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from operator import attrgetter
from typing import Generic, final

from tamis.clock import Clock, SteadyClock
from tamis.errors import StoreError
from tamis.storage.base import (
    PAIR_COLUMNS,
    RETENTION_DAYS,
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
from tamis.storage.ids import KEY_BYTES, first_id_at, hour_ticks
from tamis.storage.query import PAGE_CHARS, PAGE_ROWS, LogQuery, Page, Span, decode_cursor, encode_cursor
from tamis.storage.rows import (
    CallRecord,
    FeedbackRecord,
    LogRecord,
    Record,
    check_calls,
    check_feedback,
    revised,
)

MAX_ROWS = 100_000
MAX_BYTES = 64 * 2**20
"""The oldest rows of a log beyond this number, or of this size in memory, are dropped: memory stays flat."""

_ROW_BYTES = 400
"""Of a row besides its texts."""

_CHARS_AT_ONCE = 100_000
"""Characters that a search reads before it yields to the event loop: some milliseconds."""

_CHARS_PER_ROW = 50
"""What reading a row costs besides its text, in characters."""


class _Switch:
    """Whether the store is open, which its three parts share."""

    def __init__(self) -> None:
        self.is_on = False

    def require(self) -> None:
        if not self.is_on:
            raise StoreError("memory: the store is not open", fault="unavailable")


class _MemoryLog(RecordLog[Record], Generic[Record]):
    """Records in a list sorted by id."""

    def __init__(self, switch: _Switch, *, max_rows: int, max_bytes: int):
        self._switch, self._max_rows, self._max_bytes = switch, max_rows, max_bytes
        self._rows: list[Record] = []
        self._bytes = 0

    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[Record]:
        """Walk the list from the cursor."""
        self._switch.require()
        found: list[Record] = []
        chars = 0
        span = Span.of(query, None if after is None else decode_cursor(after))
        # a full page ends before the generator: close it now, not when it is collected
        async with aclosing(self._matching(query, span)) as matching:
            async for row in matching:
                found.append(row)
                chars += len(row.text)
                if len(found) == limit or chars >= PAGE_CHARS:
                    return Page(found, encode_cursor(row.id))
        return Page(found, None)

    async def find(self, id: bytes, *, caller: str | None = None) -> Record | None:
        """Search the sorted list."""
        self._switch.require()
        index = self._index(id)
        found = self._rows[index] if index < len(self._rows) else None
        return found if found is not None and found.id == id and caller in (None, found.caller) else None

    async def delete_before(self, moment: datetime) -> int:
        """Cut the list."""
        self._switch.require()
        count = self._index(first_id_at(moment))
        self._drop_oldest(count)
        return count

    async def delete_caller(self, caller: str) -> int:
        """Filter the list."""
        self._switch.require()
        kept = [row for row in self._rows if row.caller != caller]
        count = len(self._rows) - len(kept)
        self._rows, self._bytes = kept, sum(map(_size, kept))
        return count

    # ids mostly increase, so that a row is inserted at the end at nearly no cost
    def _insert(self, row: Record) -> None:
        """Sort a row in, in the place of one with the same id."""
        index = self._index(row.id)
        if index < len(self._rows) and self._rows[index].id == row.id:
            self._bytes -= _size(self._rows[index])
            self._rows[index] = row
        else:
            self._rows.insert(index, row)
        self._bytes += _size(row)
        while len(self._rows) > self._max_rows or self._bytes > self._max_bytes:
            self._drop_oldest(1)

    def _drop_oldest(self, count: int) -> None:
        self._bytes -= sum(map(_size, self._rows[:count]))
        del self._rows[:count]

    def _index(self, id: bytes) -> int:
        return bisect_left(self._rows, id, key=attrgetter("id"))

    async def _matching(self, query: LogQuery, span: Span) -> AsyncGenerator[Record, None]:
        """Yield the rows of `query` in `span`; the event loop runs other work in between."""
        is_done = False
        while not is_done:
            room, is_done = _CHARS_AT_ONCE, True
            start, stop = self._index(span.low), self._index(span.high)
            for index in range(stop - 1, start - 1, -1) if span.newest_first else range(start, stop):
                row = self._rows[index]
                if query.matches(row):
                    yield row
                span = span.after(row.id)
                room -= _CHARS_PER_ROW + (0 if query.contains is None else len(row.text))
                if room <= 0:
                    is_done = False
                    await asyncio.sleep(0)
                    break  # the list may have changed meanwhile

    async def _counts(self, query: LogQuery, columns: Sequence[str]) -> PartialCounts:
        """Count the rows by hour and the values of `columns`, in one pass."""
        self._switch.require()
        hours: defaultdict[int, Counter[tuple[str | None, ...]]] = defaultdict(Counter)
        async for row in self._matching(query, Span.of(query)):
            hours[hour_ticks(row.id)][tuple(getattr(row, name) for name in columns)] += 1
        for hour, counts in hours.items():
            yield hour, counts


@final
class MemoryCallLog(_MemoryLog[CallRecord], CallLog):
    """Calls in memory."""

    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Sort the calls in."""
        self._switch.require()
        check_calls(calls)
        for call in calls:
            if await self.find(call.id) is None:
                self._insert(call)

    async def summary(self, query: LogQuery) -> list[HourCount]:
        """Count in one pass."""
        return await HourCount.sums(self._counts(query, ["label"]))


@final
class MemoryFeedbackLog(_MemoryLog[FeedbackRecord], FeedbackLog):
    """Feedback in memory."""

    def __init__(self, switch: _Switch, *, max_rows: int, max_bytes: int):
        super().__init__(switch, max_rows=max_rows, max_bytes=max_bytes)
        self._ids: dict[tuple[str, bytes], bytes] = {}

    async def put(self, feedback: FeedbackRecord) -> FeedbackRecord:
        """Replace the caller's row about the same subject."""
        self._switch.require()
        check_feedback(feedback)
        known = self._ids.get((feedback.caller, feedback.subject), feedback.id)
        row = await self.find(known)
        if row is not None and row.revision > feedback.revision:
            return row
        row = feedback if row is None else revised(row, feedback)
        self._insert(row)
        self._ids[row.caller, row.subject] = row.id
        while len(self._ids) > 2 * self._max_rows:  # entries of rows that were dropped
            del self._ids[next(iter(self._ids))]
        return row

    async def pair_counts(self, query: LogQuery) -> list[LabelPairCount]:
        """Count in one pass."""
        return await LabelPairCount.sums(self._counts(query, PAIR_COLUMNS))


@final
class MemoryCache(PredictionCache):
    """Answers in a dictionary, in order of arrival."""

    def __init__(self, switch: _Switch, steady: SteadyClock, options: StoreOptions):
        self._switch, self._steady, self._options = switch, steady, options
        self._secret = os.urandom(KEY_BYTES)
        self._answers: dict[bytes, tuple[Scores, float]] = {}

    @property
    def secret(self) -> bytes:
        """A key that lasts as long as the cache."""
        return self._secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look the keys up."""
        self._switch.require()
        return [self._get(key) for key in keys]

    async def put_many(self, answers: Answers) -> None:
        """Store answers; the oldest are evicted."""
        self._switch.require()
        for key, scores in answers.items():
            if self._get(key) is None:
                # an expired answer moves to the end: the first entries are the oldest, evicted first
                self._answers.pop(key, None)
                self._answers[key] = (dict(scores), self._steady.now() + self._options.cache_seconds)
        while len(self._answers) > self._options.cache_rows:
            del self._answers[next(iter(self._answers))]

    def _get(self, key: bytes) -> Scores | None:
        scores, expires_at = self._answers.get(key, (None, 0.0))
        return scores if expires_at > self._steady.now() else None


@final
class MemoryStore(Store):
    """Two lists and a dictionary."""

    log: MemoryCallLog
    feedback: MemoryFeedbackLog

    def __init__(
        self,
        clock: Clock,
        options: StoreOptions | None = None,
        *,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
    ):
        self._switch = _Switch()
        self.log = MemoryCallLog(self._switch, max_rows=max_rows, max_bytes=max_bytes)
        self.cache = MemoryCache(self._switch, SteadyClock(clock), options or StoreOptions())
        self.feedback = MemoryFeedbackLog(self._switch, max_rows=max_rows, max_bytes=max_bytes)

    @property
    def default_retention_days(self) -> int:
        """The days of a new store, which this always is."""
        return RETENTION_DAYS

    async def open(self) -> None:
        """Allow reads and writes."""
        self._switch.is_on = True

    async def close(self) -> None:
        """Keep the rows: the same object may be opened again."""
        self._switch.is_on = False

    async def migrate(self) -> list[str]:
        """Return no migrations: there are no tables."""
        return []

    async def check(self) -> StoreHealth:
        """Report that memory works."""
        self._switch.require()
        return StoreHealth("memory:", 1)


def _size(row: LogRecord) -> int:
    return sys.getsizeof(row.text) + sys.getsizeof(row.caller) + _ROW_BYTES
