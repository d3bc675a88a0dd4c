"""A store in this process's memory, bounded and lost at exit: for trying out and for tests."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import final

from tamis.clock import Clock
from tamis.errors import StoreError
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
from tamis.storage.keys import KEY_BYTES, decode_cursor, encode_cursor, first_id_at, hour_of
from tamis.types import CallRecord

MAX_CALLS = 100_000
"""The oldest calls beyond this number are forgotten: memory stays flat."""

_CHARS_AT_ONCE = 100_000
"""Characters that a search looks through before other work gets its turn: a millisecond or a few."""

_CHARS_OF_A_ROW = 50
"""What looking at a row costs besides its text, in characters."""

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@final
class MemoryStore(Store):
    """Calls in a list sorted by id, answers in a dictionary in order of arrival."""

    def __init__(self, clock: Clock, options: StoreOptions | None = None, *, max_calls: int = MAX_CALLS):
        self._options = options or StoreOptions()
        self._steady = SteadySeconds(clock)
        self._max_calls = max_calls
        self._secret = os.urandom(KEY_BYTES)
        self._calls: list[CallRecord] = []
        self._answers: dict[bytes, tuple[Scores, float]] = {}
        self._is_open = False

    async def open(self) -> None:
        """Do nothing that could fail."""
        self._is_open = True

    async def close(self) -> None:
        """Keep the rows: the same object may be opened again."""
        self._is_open = False

    async def migrate(self) -> None:
        """Have no tables."""

    async def check(self) -> Health:
        """Say that memory works."""
        self._require_open()
        return Health("memory:", 1)

    @property
    def secret(self) -> bytes:
        """A key that lasts as long as the cache."""
        return self._secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look the keys up."""
        self._require_open()
        return [self._answer(key) for key in keys]

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Sort the calls in and remember the answers."""
        self._require_open()
        check_calls(calls)
        for call in calls:
            self._insert(call)
        for key, scores in answers.items():
            if self._answer(key) is None:
                self._answers.pop(key, None)
                self._answers[key] = (dict(scores), self._steady.now() + self._options.cache_seconds)
        while len(self._answers) > self._options.cache_rows:
            del self._answers[next(iter(self._answers))]

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Walk the list from the cursor."""
        self._require_open()
        found: list[CallRecord] = []
        chars = 0
        async with aclosing(
            self._matching(query, None if after is None else decode_cursor(after))
        ) as matching:
            async for call in matching:
                found.append(call)
                chars += len(call.text)
                if len(found) == limit or chars >= PAGE_CHARS:
                    return Page(found, encode_cursor(call.id))
        return Page(found, None)

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count in one pass."""
        self._require_open()
        counts: Counter[tuple[datetime, str]] = Counter()
        async for call in self._matching(query, None):
            counts[hour_of(call.id), call.label] += 1
        return [HourCount(hour, label, counts[hour, label]) for hour, label in sorted(counts)]

    async def delete_before(self, moment: datetime) -> int:
        """Cut the list."""
        self._require_open()
        count = bisect_left(self._calls, first_id_at(moment), key=_id)
        del self._calls[:count]
        return count

    async def delete_caller(self, caller: str) -> int:
        """Filter the list."""
        self._require_open()
        kept = [call for call in self._calls if call.caller != caller]
        count = len(self._calls) - len(kept)
        self._calls = kept
        return count

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreError("memory: the store is not open", fault="unavailable")

    def _answer(self, key: bytes) -> Scores | None:
        scores, expires_at = self._answers.get(key, (None, 0.0))
        return scores if expires_at > self._steady.now() else None

    def _insert(self, call: CallRecord) -> None:
        place = bisect_left(self._calls, call.id, key=_id)
        if place == len(self._calls) or self._calls[place].id != call.id:
            insort(self._calls, call, key=_id)
        if len(self._calls) > self._max_calls:
            del self._calls[0]

    async def _matching(self, query: CallQuery, after: bytes | None) -> AsyncGenerator[CallRecord, None]:
        """Yield the calls of `query` behind the id `after`; other work gets its turn in between."""
        is_done = False
        while not is_done:
            room, is_done = _CHARS_AT_ONCE, True
            for index in self._indices(query, after):
                call = self._calls[index]
                if _is_asked_for(call, query):
                    yield call
                after = call.id
                room -= _CHARS_OF_A_ROW + (0 if query.contains is None else len(call.text))
                if room <= 0:
                    is_done = False
                    await asyncio.sleep(0)
                    break  # the list may have changed meanwhile

    def _indices(self, query: CallQuery, after: bytes | None) -> range:
        """Return where the calls of the query's time behind the id `after` are, in the query's order."""
        start = 0 if query.since is None else bisect_left(self._calls, first_id_at(query.since), key=_id)
        stop = len(self._calls)
        if query.until is not None:
            stop = bisect_left(self._calls, first_id_at(query.until), key=_id)
        if after is not None and query.newest_first:
            stop = min(stop, bisect_left(self._calls, after, key=_id))
        elif after is not None:
            start = max(start, bisect_right(self._calls, after, key=_id))
        return range(stop - 1, start - 1, -1) if query.newest_first else range(start, stop)


def _id(call: CallRecord) -> bytes:
    return call.id


def _is_asked_for(call: CallRecord, query: CallQuery) -> bool:
    return (
        query.caller in (None, call.caller)
        and query.label in (None, call.label)
        and query.model in (None, call.model)
        and (
            query.contains is None
            or query.contains.translate(_ASCII_LOWER) in call.text.translate(_ASCII_LOWER)
        )
    )
