"""The call log's SQL, in steps so short that no reader stops a checkpoint. Knows one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import apsw

from tamis.storage.base import PAGE_CHARS, CallQuery
from tamis.storage.keys import TICKS_PER_HOUR, first_id, first_id_at, ticks_of
from tamis.storage.sqlite.connection import transaction
from tamis.types import CallRecord

ROWS_OF_A_SEARCH = 2_000
"""Rows that one step looks through where not every row is asked for."""

_ROWS_OF_A_COUNT = 20_000
_ROWS_OF_A_DELETION = 1_000

_ROWS_OF_A_STATEMENT = 32
"""Rows that one statement inserts: one by one, each would cost the Python around it again."""

_LAST = b"\xff"


@dataclass(frozen=True, slots=True)
class Span:
    """Ids from `low`, inside, to `high`, outside; `id + b"\\0"` is the place right behind an id."""

    low: bytes
    high: bytes

    @classmethod
    def of(cls, query: CallQuery, after: bytes | None) -> Span:
        """Return the ids that `query` leaves to read behind the id `after`."""
        low = b"" if query.since is None else first_id_at(query.since)
        high = _LAST if query.until is None else first_id_at(query.until)
        return cls(low, high) if after is None else cls(low, high).behind(after, query)

    def behind(self, id: bytes, query: CallQuery) -> Span:
        """Return what is left when `id` and all before it, in the query's order, have been read."""
        if query.newest_first:
            return Span(self.low, min(self.high, id))
        return Span(max(self.low, id + b"\0"), self.high)

    def up_to(self, id: bytes, query: CallQuery) -> Span:
        """Return what comes, in the query's order, not behind `id`."""
        return Span(id, self.high) if query.newest_first else Span(self.low, id + b"\0")


@dataclass(frozen=True, slots=True)
class Step:
    """The calls that one step found and the span that is left, None at the end."""

    calls: list[CallRecord]
    left: Span | None


def insert(connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
    """Write calls in one transaction; one that is there already stays as it is."""
    if len(calls) <= _ROWS_OF_A_STATEMENT:
        _insert_some(connection, calls)  # a statement alone is a transaction
        return
    with transaction(connection):
        for start in range(0, len(calls), _ROWS_OF_A_STATEMENT):
            _insert_some(connection, calls[start : start + _ROWS_OF_A_STATEMENT])


def _insert_some(connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
    connection.execute(_insertion(len(calls)), tuple(chain.from_iterable(calls)))


@cache
def _insertion(n_rows: int) -> str:
    """Return the statement; DO NOTHING for the id alone: OR IGNORE would hide other broken rules."""
    rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * n_rows)
    return f"INSERT INTO calls VALUES {rows} ON CONFLICT (id) DO NOTHING"


def read_step(
    query: CallQuery, span: Span, limit: int, chars: int = PAGE_CHARS
) -> Callable[[apsw.Connection], Step]:
    """Return a step that reads the first rows of `span`: at most `limit`, and until they have `chars`."""
    searches = any(wish is not None for wish in (query.label, query.contains, query.model))

    def step(connection: apsw.Connection) -> Step:
        edge = _edge(connection, query, span, ROWS_OF_A_SEARCH if searches else limit)
        where, values = _where(query, span if edge is None else span.up_to(edge, query))
        order = "DESC" if query.newest_first else "ASC"
        rows = connection.execute(
            f"SELECT id, caller, text, label, score, model, from_cache FROM calls WHERE {where} "
            f"ORDER BY id {order} LIMIT ?",
            (*values, limit),
        )
        calls, room = [], chars
        for row in rows:
            calls.append(CallRecord._make((*row[:-1], bool(row[-1]))))
            room -= len(row[2])
            if room <= 0 or len(calls) == limit:
                edge = calls[-1].id
                break
        rows.close()  # an unfinished statement would hold up checkpoints
        return Step(calls, None if edge is None else span.behind(edge, query))

    return step


@dataclass(frozen=True, slots=True)
class Count:
    """How many calls of one label a step counted, in the hour that begins at `ticks`."""

    ticks: int
    label: str
    count: int


def count_step(query: CallQuery, span: Span) -> Callable[[apsw.Connection], tuple[list[Count], Span | None]]:
    """Return a step that counts the first rows of `span`, within one hour, and says what is left."""
    query = replace(query, newest_first=False)

    def step(connection: apsw.Connection) -> tuple[list[Count], Span | None]:
        start = _edge(connection, query, span, 1)
        if start is None:
            return [], None
        hour = ticks_of(start) // TICKS_PER_HOUR
        within = Span(start, min(first_id((hour + 1) * TICKS_PER_HOUR), span.high))
        edge = _edge(
            connection, query, within, _ROWS_OF_A_COUNT if query.contains is None else ROWS_OF_A_SEARCH
        )
        counted = within if edge is None else within.up_to(edge, query)
        where, values = _where(query, counted)
        rows = connection.execute(f"SELECT label, count(*) FROM calls WHERE {where} GROUP BY label", values)
        return [Count(hour * TICKS_PER_HOUR, *row) for row in rows], Span(counted.high, span.high)

    return step


def delete_step(query: CallQuery) -> Callable[[apsw.Connection], tuple[int, bool]]:
    """Return a step that deletes a caller's or a range's oldest calls: how many, and if more are left."""
    where, values = _range(query, Span.of(query, None))
    doomed = f"SELECT id FROM calls WHERE {where} ORDER BY id LIMIT {_ROWS_OF_A_DELETION}"

    def step(connection: apsw.Connection) -> tuple[int, bool]:
        with transaction(connection):
            connection.execute(f"DELETE FROM calls WHERE id IN ({doomed})", values)
            deleted = connection.changes()
        return deleted, deleted == _ROWS_OF_A_DELETION

    return step


def _edge(connection: apsw.Connection, query: CallQuery, span: Span, rows: int) -> bytes | None:
    """Return the id of the row number `rows` of the span, counting all of the caller's rows."""
    where, values = _range(query, span)
    order = "DESC" if query.newest_first else "ASC"
    edge: bytes | None = connection.execute(
        f"SELECT id FROM calls WHERE {where} ORDER BY id {order} LIMIT 1 OFFSET ?", (*values, rows - 1)
    ).get
    return edge


def _range(query: CallQuery, span: Span) -> tuple[str, tuple[bytes | str, ...]]:
    """Return the part of the condition that an index answers, and its values."""
    if query.caller is None:
        return "id >= ? AND id < ?", (span.low, span.high)
    return "caller = ? AND id >= ? AND id < ?", (query.caller, span.low, span.high)


def _where(query: CallQuery, span: Span) -> tuple[str, tuple[bytes | str, ...]]:
    """Return the whole condition, and its values."""
    condition, values = _range(query, span)
    wishes = {
        " AND label = ?": query.label,
        " AND model = ?": query.model,
        # instr and lower look at every byte: unlike LIKE and length they do not stop at NUL
        " AND instr(lower(text), lower(?)) > 0": query.contains,
    }
    for wish, value in wishes.items():
        if value is not None:
            condition, values = condition + wish, (*values, value)
    return condition, values
