"""The SQL of a log's table, in steps so short that no reader stops a checkpoint. Uses one connection.

Columns are always named, in the order of the record's fields: the order in the file does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Generic, final

import apsw
from msgspec.structs import astuple

from tamis.storage.ids import TICKS_PER_HOUR, first_id, hour_ticks
from tamis.storage.query import LogQuery, Span
from tamis.storage.rows import CallRecord, FeedbackRecord, Record, columns_of, from_columns, revised
from tamis.storage.sqlite.connection import transaction

ROWS_OF_A_SEARCH = 2_000
"""Rows that one step reads if not every row matches."""

# rows per step: the reader's thread is free for other queries in between
_ROWS_OF_A_COUNT = 20_000
# rows per transaction: commits of the call log wait no longer than one step
_ROWS_OF_A_DELETION = 1_000

_ROWS_OF_A_STATEMENT = 32
"""Rows that one statement inserts: one by one, each would cost the Python around it again."""


@dataclass(frozen=True, slots=True)
class Step(Generic[Record]):
    """The rows that one step found and the span that is left, None at the end."""

    rows: list[Record]
    left: Span | None


@dataclass(frozen=True, slots=True)
class CountStep:
    """Rows that one step counted by the values of some columns, in the hour that begins at `ticks`."""

    ticks: int
    counts: Counter[tuple[str | None, ...]]
    left: Span | None


@final
class Table(Generic[Record]):
    """One log's table, whose primary key is `id`."""

    def __init__(self, name: str, record: type[Record]):
        self._name, self._record = name, record
        self._names = columns_of(record)
        # by number of rows: the same text, so that apsw finds its prepared statement again
        self._insertions: dict[int, str] = {}

    def insert(self, connection: apsw.Connection, rows: Sequence[Record]) -> None:
        """Write rows in one transaction; one that is there already stays as it is."""
        if len(rows) <= _ROWS_OF_A_STATEMENT:
            self._insert_some(connection, rows)  # a statement alone is a transaction
            return
        with transaction(connection):
            for start in range(0, len(rows), _ROWS_OF_A_STATEMENT):
                self._insert_some(connection, rows[start : start + _ROWS_OF_A_STATEMENT])

    def read_step(
        self, query: LogQuery, span: Span, limit: int, chars: int
    ) -> Callable[[apsw.Connection], Step[Record]]:
        """Return a step that reads the first rows of `span`: at most `limit`, and until they have `chars`."""

        def step(connection: apsw.Connection) -> Step[Record]:
            # the last row that this step may read, found by the index: a search without matches ends, too
            edge = self._edge(connection, query, span, ROWS_OF_A_SEARCH if query.is_search else limit)
            where, values = _where(query, span if edge is None else span.up_to(edge))
            found = connection.execute(
                f"{self._selection} WHERE {where} ORDER BY id {_order(span)} LIMIT ?", (*values, limit)
            )
            rows, room = [], chars
            for one in found:
                rows.append(from_columns(self._record, self._names, one))
                room -= len(rows[-1].text)
                if room <= 0 or len(rows) == limit:
                    edge = rows[-1].id
                    break
            found.close()  # an unfinished statement would hold up checkpoints
            return Step(rows, None if edge is None else span.after(edge))

        return step

    def count_step(
        self, query: LogQuery, span: Span, columns: Sequence[str]
    ) -> Callable[[apsw.Connection], CountStep]:
        """Return a step that counts the first rows of `span`, within one hour, by the values of `columns`."""
        span, by = replace(span, newest_first=False), ", ".join(columns)

        def step(connection: apsw.Connection) -> CountStep:
            start = self._edge(connection, query, span, 1)
            if start is None:
                return CountStep(0, Counter(), None)
            hour = hour_ticks(start)
            # the caller adds hours up; parts of an hour may come separately
            within = Span(start, min(first_id(hour + TICKS_PER_HOUR), span.high))
            n_rows = _ROWS_OF_A_COUNT if query.contains is None else ROWS_OF_A_SEARCH
            edge = self._edge(connection, query, within, n_rows)
            counted = within if edge is None else within.up_to(edge)
            where, values = _where(query, counted)
            rows = connection.execute(
                f"SELECT {by}, count(*) FROM {self._name} WHERE {where} GROUP BY {by}", values
            )
            counts = Counter({tuple(key): count for *key, count in rows})
            return CountStep(hour, counts, Span(counted.high, span.high))

        return step

    def find(
        self, connection: apsw.Connection, condition: str, values: Sequence[bytes | str]
    ) -> Record | None:
        """Return the one row for which a condition holds."""
        found = connection.execute(f"{self._selection} WHERE {condition}", tuple(values)).fetchone()
        return None if found is None else from_columns(self._record, self._names, found)

    def delete_step(self, query: LogQuery) -> Callable[[apsw.Connection], tuple[int, bool]]:
        """Return a step that deletes a caller's or a range's oldest rows: how many, and if more are left."""
        where, values = _range(query, Span.of(query))
        # a subquery: DELETE has a LIMIT only in an SQLite that is compiled with it
        doomed = f"SELECT id FROM {self._name} WHERE {where} ORDER BY id LIMIT {_ROWS_OF_A_DELETION}"

        def step(connection: apsw.Connection) -> tuple[int, bool]:
            with transaction(connection):
                connection.execute(f"DELETE FROM {self._name} WHERE id IN ({doomed})", values)
                deleted = connection.changes()
            return deleted, deleted == _ROWS_OF_A_DELETION

        return step

    @cached_property
    def _selection(self) -> str:
        return f"SELECT {', '.join(self._names)} FROM {self._name}"

    def _insert_some(self, connection: apsw.Connection, rows: Sequence[Record]) -> None:
        connection.execute(self._insertion(len(rows)), tuple(chain.from_iterable(map(astuple, rows))))

    def _insertion(self, n_rows: int) -> str:
        """Return the statement; DO NOTHING for the id alone: OR IGNORE would hide other broken rules."""
        statement = self._insertions.get(n_rows)
        if statement is None:
            row = f"({', '.join('?' * len(self._names))})"
            statement = self._insertions[n_rows] = (
                f"INSERT INTO {self._name} ({', '.join(self._names)}) "
                f"VALUES {', '.join([row] * n_rows)} ON CONFLICT (id) DO NOTHING"
            )
        return statement

    def _edge(self, connection: apsw.Connection, query: LogQuery, span: Span, n_rows: int) -> bytes | None:
        """Return the id of row number `n_rows` of the span, counting all of the caller's rows."""
        where, values = _range(query, span)
        edge: bytes | None = connection.execute(
            f"SELECT id FROM {self._name} WHERE {where} ORDER BY id {_order(span)} LIMIT 1 OFFSET ?",
            (*values, n_rows - 1),
        ).get
        return edge


CALLS = Table("calls", CallRecord)
FEEDBACK = Table("feedback", FeedbackRecord)


def put_feedback(feedback: FeedbackRecord) -> Callable[[apsw.Connection], FeedbackRecord]:
    """Return a step that inserts feedback, or revises the caller's row about the same subject."""

    def step(connection: apsw.Connection) -> FeedbackRecord:
        with transaction(connection):
            subject = (feedback.caller, feedback.subject)
            row = FEEDBACK.find(connection, "caller = ? AND subject = ?", subject)
            if row is None:
                FEEDBACK.insert(connection, [feedback])
                return feedback
            # reports may be committed in another order than they arrived: the latest one counts
            if row.revision > feedback.revision:
                return row
            row = revised(row, feedback)
            connection.execute(
                "UPDATE feedback SET label = ?, comment = ?, revision = ? WHERE id = ?",
                (row.label, row.comment, row.revision, row.id),
            )
            return row

    return step


def _order(span: Span) -> str:
    return "DESC" if span.newest_first else "ASC"


def _range(query: LogQuery, span: Span) -> tuple[str, tuple[bytes | str, ...]]:
    """Return the part of the condition that an index answers, and its values."""
    if query.caller is None:
        return "id >= ? AND id < ?", (span.low, span.high)
    return "caller = ? AND id >= ? AND id < ?", (query.caller, span.low, span.high)


def _where(query: LogQuery, span: Span) -> tuple[str, tuple[bytes | str, ...]]:
    """Return the whole condition, and its values."""
    condition, values = _range(query, span)
    for name, value in query.filters.items():
        condition, values = f"{condition} AND {name} = ?", (*values, value)
    if query.contains is not None:
        # instr and lower read every byte: unlike LIKE and length they do not stop at NUL
        condition, values = f"{condition} AND instr(lower(text), lower(?)) > 0", (*values, query.contains)
    return condition, values
