"""What a query of a log asks for, and where a page begins and ends: the same for every store.

    LogQuery ─► Span: the ids still to read ─► a store reads some ─► Page: records, cursor
                  ▲                                                                        │
                  └─────────────── decode_cursor ◄─────────────────────────────────────────┘

Ids are in the order of time (`tamis.storage.ids`), so a range of time is a range of ids and a cursor is the
id of the last row that was read.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from tamis.errors import InputError
from tamis.storage.ids import ID_BYTES, MAX_TICKS, first_id_at, ticks_of

PAGE_ROWS = 500
"""Rows of a page by default."""

PAGE_CHARS = 32_768
"""A page ends with the row that reaches so many characters of text: its size does not depend on theirs."""

FILTERS = ("label", "model", "model_name", "model_version")
"""Columns of both logs that a query may require to be equal to a value."""

# cursors are kept by clients: another version must refuse them, not misread them
_CURSOR_FORMAT = b"\x01"
# below and above every id: the top four bits of an id are clear
_FIRST, _LAST = b"", b"\xff" * 8
# SQLite's lower() knows ASCII letters only, and all stores must find the same rows
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which rows of a log to read; a field that is None does not restrict them.

    `since` is inside the range and `until` is not; both are aware datetimes. `contains` finds a part of the
    text and ignores the case of ASCII letters. A cluster answers fastest when `caller` and both ends of the
    range are given: its partitions are one caller's hour each.
    """

    caller: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    label: str | None = None
    contains: str | None = None
    model: str | None = None
    newest_first: bool = False
    model_name: str | None = None
    model_version: str | None = None

    @property
    def filters(self) -> dict[str, str]:
        """The values that columns must be equal to, the caller's not included."""
        values = ((name, getattr(self, name)) for name in FILTERS)
        return {name: value for name, value in values if value is not None}

    @property
    def is_search(self) -> bool:
        """Whether some rows of the caller's and the range may not match."""
        return self.contains is not None or bool(self.filters)

    # for the stores that filter in Python; `_where` of SQLite means the same
    def matches(self, row: Any) -> bool:
        """Return whether a row is asked for, whatever its time; it may lack a text that is not searched."""
        return (
            self.caller in (None, row.caller)
            and all(getattr(row, name) == value for name, value in self.filters.items())
            and (
                self.contains is None
                or self.contains.translate(_ASCII_LOWER) in row.text.translate(_ASCII_LOWER)
            )
        )


@dataclass(frozen=True, slots=True)
class Span:
    """Ids from `low`, inside, to `high`, outside, in the order of a query.

    `id + b"\\0"` is the position right after an id.
    """

    low: bytes
    high: bytes
    newest_first: bool = False

    @classmethod
    def of(cls, query: LogQuery, after: bytes | None = None) -> Span:
        """Return the ids that `query` asks for, without those up to the id `after`."""
        low = _FIRST if query.since is None else first_id_at(query.since)
        high = _LAST if query.until is None else first_id_at(query.until)
        span = cls(low, high, query.newest_first)
        return span if after is None else span.after(after)

    def after(self, id: bytes) -> Span:
        """Return the rest of the span after `id`, in its order."""
        if self.newest_first:
            return Span(self.low, min(self.high, id), newest_first=True)
        return Span(max(self.low, id + b"\0"), self.high)

    def up_to(self, id: bytes) -> Span:
        """Return the span up to `id`, in its order, with `id` inside."""
        return Span(id, self.high, newest_first=True) if self.newest_first else Span(self.low, id + b"\0")

    @property
    def position(self) -> bytes:
        """The id after which a span that was made by `after` begins."""
        # `after` appended a zero byte to the low end
        return self.high if self.newest_first else self.low[:-1]

    @property
    def ticks(self) -> tuple[int, int]:
        """The span in whole ticks, the second outside; ids of its first or last tick may be outside."""
        # an end within a tick: that tick still has ids of the span
        high = ticks_of(self.high) + (self.high[8:] > bytes(8))
        return min(ticks_of(self.low), MAX_TICKS), min(high, MAX_TICKS)

    def holds(self, id: bytes) -> bool:
        """Return whether an id is inside."""
        return self.low <= id < self.high


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows in order of time; `cursor` leads to what follows and is None at the end.

    A page may have fewer rows than asked for, or none, although its cursor leads to more: a search
    reads a bounded number of rows at a time, and a page holds a bounded amount of text.
    """

    rows: Sequence[Row]
    cursor: str | None


class Readable(Protocol[Row]):
    """A log that can be read page by page."""

    def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Awaitable[Page[Row]]:
        """Return the next page."""


async def pages(
    log: Readable[Row], query: LogQuery, *, limit: int = PAGE_ROWS
) -> AsyncIterator[Sequence[Row]]:
    """Yield all rows of `query` a page at a time; nothing is held between two pages."""
    page = await log.read(query, limit=limit)
    while True:
        if page.rows:
            yield page.rows
        if page.cursor is None:
            return
        page = await log.read(query, after=page.cursor, limit=limit)


def encode_cursor(time_id: bytes) -> str:
    """Return the opaque cursor that leads to the rows after `time_id`; it stays valid after a restart."""
    body = _CURSOR_FORMAT + time_id
    return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode()


def decode_cursor(cursor: str) -> bytes:
    """Return the id after which a page starts.

    A cursor is a position and no permission: the query's caller restricts the rows all the same.
    """
    try:
        # without `validate` other characters are skipped, and many strings would be one cursor
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    # the checksum refuses a cursor that was cut or mistyped; it protects nothing
    body, check = raw[:-4], raw[-4:]
    if (
        len(body) != 1 + ID_BYTES
        or body[:1] != _CURSOR_FORMAT
        or zlib.crc32(body).to_bytes(4, "big") != check
    ):
        message = "cursor must be one that an earlier page gave; leave it out to start again"
        raise InputError("bad_cursor", message, field="cursor")
    return body[1:]
