"""Where a call lies and which of them a query leaves to read. Knows ids, hours and shards; no driver."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tamis.storage.base import CallQuery
from tamis.storage.cassandra.schema import SHARDS
from tamis.storage.keys import (
    TICKS_PER_HOUR,
    as_uuid,
    called_at,
    first_id,
    first_id_at,
    ticks_of,
)
from tamis.types import CallRecord

LAST_TICKS = (1 << 60) - 1
_LOWEST_TAIL = b"\x80" * 8  # Cassandra compares these bytes as signed numbers

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def shard_of(time_id: bytes) -> int:
    """Return the partition of its caller's hour in which a call lies, wherever it is computed."""
    return zlib.crc32(time_id) % SHARDS


def hour_ticks(time_id: bytes) -> int:
    """Return the first ticks of the hour of an id."""
    return ticks_of(time_id) // TICKS_PER_HOUR * TICKS_PER_HOUR


def moment(ticks: int) -> datetime:
    """Return the moment of some ticks in UTC."""
    return called_at(first_id(ticks))


def ticks_at(hour: datetime) -> int:
    """Return the ticks of an hour as the driver gives it, without a time zone."""
    return ticks_of(first_id_at(hour.replace(tzinfo=UTC)))


def lowest_uuid(ticks: int) -> UUID:
    """Return the UUID that Cassandra sorts before all of these ticks or later."""
    return as_uuid(ticks.to_bytes(8, "big") + _LOWEST_TAIL)


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks from `low`, inside, to `high`, outside, without what a cursor has left behind."""

    low: int
    high: int
    after: bytes | None
    newest_first: bool

    @classmethod
    def of(cls, query: CallQuery, after: bytes | None = None) -> Span:
        """Return what `query` leaves to read behind the id `after`."""
        low = 0 if query.since is None else _clamped(query.since)
        high = LAST_TICKS if query.until is None else _clamped(query.until)
        if after is not None and query.newest_first:
            high = min(high, min(ticks_of(after), LAST_TICKS - 1) + 1)
        elif after is not None:
            low = max(low, min(ticks_of(after), LAST_TICKS))
        return cls(low, high, after, query.newest_first)

    @property
    def first_hour(self) -> int:
        """The ticks of the hour in which the span begins."""
        return self.low // TICKS_PER_HOUR * TICKS_PER_HOUR

    def within(self, hour: int) -> tuple[UUID, UUID]:
        """Return the part of the span that lies in one hour."""
        return (
            lowest_uuid(max(self.low, hour)),
            lowest_uuid(min(self.high, hour + TICKS_PER_HOUR)),
        )

    def holds(self, time_id: bytes) -> bool:
        """Whether a call is behind the cursor: the span's ticks are coarser than that."""
        if self.after is None:
            return True
        return time_id < self.after if self.newest_first else time_id > self.after

    def hours(self) -> Iterator[int]:
        """Yield the hours of the span in its order, whether anything lies there or not."""
        hours = range(self.first_hour, self.high, TICKS_PER_HOUR)
        return iter(reversed(hours)) if self.newest_first else iter(hours)

    def behind(self, hour: int) -> bytes:
        """Return the cursor when an hour and all before it, in the span's order, have been read."""
        return first_id(hour if self.newest_first else hour + TICKS_PER_HOUR)


def searches(query: CallQuery) -> bool:
    """Whether not every call of the span is asked for."""
    return any(wish is not None for wish in (query.label, query.contains, query.model))


def is_wanted(call: CallRecord, query: CallQuery) -> bool:
    """Whether a call is what `query` searches for; caller and time have been looked at."""
    return (
        query.label in (None, call.label)
        and query.model in (None, call.model)
        and (
            query.contains is None
            or query.contains.translate(_ASCII_LOWER) in call.text.translate(_ASCII_LOWER)
        )
    )


def _clamped(moment: datetime) -> int:
    return min(max(ticks_of(first_id_at(moment)), 0), LAST_TICKS)
