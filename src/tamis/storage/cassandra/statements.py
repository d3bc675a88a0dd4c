"""Every statement that serving uses, prepared with its consistency, and the connection they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from cassandra import ConsistencyLevel
from cassandra.cluster import Session

from tamis.errors import StoreError
from tamis.storage.base import ClusterOptions
from tamis.storage.cassandra.async_session import AsyncSession
from tamis.storage.cassandra.tables import CALLS, FEEDBACK, LogTable, quoted

_PARTITION = "caller = ? AND hour = ? AND shard = ?"

Prepare = Callable[..., Any]
"""Prepares CQL, with the log's consistency by default."""


@dataclass(frozen=True, slots=True)
class LogStatements:
    """The driver's prepared statements for one log; all of them are idempotent."""

    insert: Any
    """Values: caller, hour, shard, then the record's columns except caller."""
    read: dict[tuple[bool, bool], Any]
    """By (with texts, newest first): rows of one partition between two ids."""
    read_one: Any
    delete_before: Any
    delete_partition: Any
    insert_hour: Any
    insert_caller: Any
    read_hours: dict[bool, Any]
    """By newest first."""
    read_callers: Any
    delete_hour: Any
    delete_caller_of_hour: Any


@dataclass(frozen=True, slots=True)
class Statements:
    """The driver's prepared statements; all of them are idempotent."""

    logs: dict[str, LogStatements]
    """By the name of the log's table."""
    claim_subject: Any
    """Inserts a subject's id unless there is one; its row then has the id that is there."""
    delete_subject: Any
    read_answer: Any
    insert_answer: Any
    write_meta: Any


@dataclass(frozen=True, slots=True)
class Connected:
    """One connection and what belongs to it."""

    driver: Session
    session: AsyncSession
    statements: Statements
    secret: bytes
    version: int


@final
class ClusterConnection:
    """The connection of a store, which is replaced when the store reconnects."""

    def __init__(self, name: str):
        self.name = name
        self.now: Connected | None = None

    @property
    def current(self) -> Connected:
        """The open connection; StoreError if there is none."""
        if self.now is None:
            raise StoreError(f"{self.name}: the store is not open", fault="unavailable")
        return self.now


def prepare(session: Session, keyspace: str, options: ClusterOptions) -> Statements:
    """Prepare all statements; blocks."""
    name = quoted(keyspace)
    log, cache = _level(options.log_consistency), _level(options.cache_consistency)

    def ready(cql: str, consistency: int = log) -> Any:
        statement = session.prepare(cql)
        statement.consistency_level = consistency
        # only then the driver retries, and asks a second host when the first is slow
        statement.is_idempotent = True
        return statement

    subjects = f"{name}.feedback_subjects"
    claim = ready(f"INSERT INTO {subjects} (caller, subject, id) VALUES (?, ?, ?) IF NOT EXISTS")
    # the default, SERIAL, would need a quorum of all data centres
    claim.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
    return Statements(
        logs={table.name: _log_statements(ready, name, table) for table in (CALLS, FEEDBACK)},
        claim_subject=claim,
        delete_subject=ready(f"DELETE FROM {subjects} WHERE caller = ? AND subject = ?"),
        read_answer=ready(f"SELECT scores, expires_at FROM {name}.answers WHERE key = ?", cache),
        insert_answer=ready(
            f"INSERT INTO {name}.answers (key, scores, expires_at) VALUES (?, ?, ?) USING TTL ?"
        ),
        write_meta=ready(f"INSERT INTO {name}.meta (name, value) VALUES (?, ?)"),
    )


def _log_statements(ready: Prepare, keyspace: str, table: LogTable[Any]) -> LogStatements:
    name, hours, callers = (f"{keyspace}.{one}" for one in (table.name, table.hours, table.callers))
    own = [column for column in table.columns if column != "caller"]
    full, both = ", ".join(table.columns), (False, True)
    return LogStatements(
        insert=ready(
            f"INSERT INTO {name} (caller, hour, shard, {', '.join(own)}) "
            f"VALUES (?, ?, ?, {', '.join('?' * len(own))})"
        ),
        read={
            (texts, newest): ready(
                f"SELECT {full if texts else ', '.join(table.light)} FROM {name} WHERE {_PARTITION} "
                f"AND id >= ? AND id < ? ORDER BY id {_order(newest)}"
            )
            for texts in both
            for newest in both
        },
        read_one=ready(f"SELECT {full} FROM {name} WHERE {_PARTITION} AND id = ?"),
        delete_before=ready(f"DELETE FROM {name} WHERE {_PARTITION} AND id < ?"),
        delete_partition=ready(f"DELETE FROM {name} WHERE {_PARTITION}"),
        insert_hour=ready(f"INSERT INTO {hours} (of_all, caller, hour) VALUES (?, ?, ?)"),
        insert_caller=ready(f"INSERT INTO {callers} (hour, caller) VALUES (?, ?)"),
        read_hours={
            newest: ready(
                f"SELECT hour FROM {hours} WHERE of_all = ? AND caller = ? AND hour >= ? AND hour < ? "
                f"ORDER BY hour {_order(newest)} LIMIT ?"
            )
            for newest in both
        },
        read_callers=ready(f"SELECT caller FROM {callers} WHERE hour = ?"),
        delete_hour=ready(f"DELETE FROM {hours} WHERE of_all = ? AND caller = ? AND hour = ?"),
        delete_caller_of_hour=ready(f"DELETE FROM {callers} WHERE hour = ? AND caller = ?"),
    )


def _order(newest_first: bool) -> str:
    return "DESC" if newest_first else "ASC"


def _level(name: str) -> int:
    level = ConsistencyLevel.name_to_value.get(name.upper())
    if level is None:
        known = ", ".join(sorted(ConsistencyLevel.name_to_value))
        raise StoreError(f"invalid consistency {name[:20]!r}; use one of {known}")
    return int(level)
