"""Which callers called in which hours. Knows the tables `hours` and `callers`.

A process writes an hour's entries with its first call of that hour and then remembers that it did.
An entry may lead to nothing; a call without an entry is only found by its caller and hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import final

from tamis.storage.base import CallQuery
from tamis.storage.cassandra.bridge import Bridge
from tamis.storage.cassandra.places import Span, moment, ticks_at
from tamis.storage.cassandra.prepared import Prepared
from tamis.storage.keys import TICKS_PER_HOUR

_KNOWN_HOURS = 10_000
_CALLERS_AT_ONCE = 1_000
_HOURS_WITHOUT_INDEX = 3

CallerHour = tuple[str, int]


@final
class Index:
    """Finds the partitions of a query."""

    def __init__(self, bridge: Bridge, prepared: Prepared, *, seconds: float):
        self._bridge, self._prepared, self._seconds = bridge, prepared, seconds
        self._known: set[CallerHour] = set()

    async def note(self, places: Iterable[CallerHour]) -> None:
        """Write the entries of hours that this process has not yet written."""
        new = {place for place in places if place not in self._known}
        if not new:
            return
        await asyncio.gather(*(self._write(caller, hour) for caller, hour in new))
        if len(self._known) > _KNOWN_HOURS:
            self._known.clear()
        self._known |= new

    async def hours(self, query: CallQuery, span: Span, limit: int) -> list[int]:
        """Return the first hours, at most `limit`, in which there may be calls of `query`."""
        if query.caller is not None and span.high - span.low <= _HOURS_WITHOUT_INDEX * TICKS_PER_HOUR:
            return list(span.hours())
        ends = moment(span.first_hour), moment(span.high)
        read = self._prepared.read_hours[span.newest_first].bind(
            (query.caller is None, query.caller or "", *ends, limit)
        )
        pages = self._bridge.pages(read, seconds=self._seconds)
        return [ticks_at(hour) async for rows in pages for (hour,) in rows]

    async def callers(self, hour: int) -> AsyncIterator[list[str]]:
        """Yield the callers of one hour, some at a time."""
        read = self._prepared.read_callers.bind((moment(hour),))
        read.fetch_size = _CALLERS_AT_ONCE
        async for rows in self._bridge.pages(read, seconds=self._seconds):
            yield [caller for (caller,) in rows]

    async def forget(self, caller: str, hour: int) -> None:
        """Delete the entries of one caller's hour."""
        self._known.discard((caller, hour))
        await self._run(self._prepared.delete_hour, (False, caller, moment(hour)))
        await self._run(self._prepared.delete_caller_of_hour, (moment(hour), caller))

    async def forget_hour(self, hour: int) -> None:
        """Delete what tells that anybody called in one hour."""
        await self._run(self._prepared.delete_hour, (True, "", moment(hour)))

    async def _write(self, caller: str, hour: int) -> None:
        at = moment(hour)
        await asyncio.gather(
            self._run(self._prepared.insert_hour, (True, "", at)),
            self._run(self._prepared.insert_hour, (False, caller, at)),
            self._run(self._prepared.insert_caller, (at, caller)),
        )

    async def _run(self, prepared: object, values: tuple[object, ...]) -> None:
        await self._bridge.execute(prepared.bind(values), seconds=self._seconds)  # type: ignore[attr-defined]
