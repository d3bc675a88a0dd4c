"""Several partitions, each in order, as one sequence in order. Knows rows of calls; knows no query."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, final

from tamis.storage.cassandra.bridge import Bridge
from tamis.storage.keys import from_uuid
from tamis.types import CallRecord

_FILLED_AT_ONCE = 128


@final
class Partition:
    """The rows of one partition, of which a bounded number is in memory."""

    def __init__(self, bridge: Bridge, statement: Any, seconds: float):
        self._pages = bridge.pages(statement, seconds=seconds)
        self._rows: deque[tuple[Any, ...]] = deque()

    async def fill(self) -> None:
        """Fetch rows if there are none; there are still none at the end."""
        if not self._rows:
            async for rows in self._pages:
                self._rows.extend(rows)
                return

    def take(self) -> CallRecord | None:
        """Return the next call, None when `fill` found no more."""
        if not self._rows:
            return None
        uuid, *rest = self._rows.popleft()
        return CallRecord(from_uuid(uuid), *rest)


async def merged(partitions: Sequence[Partition], *, newest_first: bool) -> AsyncIterator[CallRecord]:
    """Yield the calls of all partitions in the order of their ids."""
    for start in range(0, len(partitions), _FILLED_AT_ONCE):
        await asyncio.gather(*(one.fill() for one in partitions[start : start + _FILLED_AT_ONCE]))
    heap: list[tuple[int, int, CallRecord]] = []

    def push(place: int) -> None:
        call = partitions[place].take()
        if call is not None:
            order = int.from_bytes(call.id, "big")
            heapq.heappush(heap, (-order if newest_first else order, place, call))

    for place in range(len(partitions)):
        push(place)
    while heap:
        _, place, call = heapq.heappop(heap)
        yield call
        await partitions[place].fill()
        push(place)
