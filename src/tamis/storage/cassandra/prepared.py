"""Every statement that serving uses, prepared with its consistency. Knows CQL; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session

from tamis.errors import StoreError
from tamis.storage.base import ClusterOptions
from tamis.storage.cassandra.schema import quoted

_PARTITION = "caller = ? AND hour = ? AND shard = ?"
_CALL = "id, caller, text, label, score, model, from_cache"
_LIGHT = "id, label, model"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The driver's prepared statements; all of them are idempotent."""

    insert_call: Any
    read_calls: dict[tuple[bool, bool], Any]
    """By (with texts, newest first): rows of one partition between two ids."""
    delete_calls: Any
    delete_partition: Any
    insert_hour: Any
    insert_caller: Any
    read_hours: dict[bool, Any]
    """By newest first."""
    read_callers: Any
    delete_hour: Any
    delete_callers_of_hour: Any
    delete_caller_of_hour: Any
    read_answer: Any
    insert_answer: Any
    write_meta: Any


def prepare(session: Session, keyspace: str, options: ClusterOptions) -> Prepared:
    """Prepare all statements; blocks."""
    name = quoted(keyspace)
    log, cache = _level(options.log_consistency), _level(options.cache_consistency)

    def ready(cql: str, consistency: int = log) -> Any:
        statement = session.prepare(cql)
        statement.consistency_level = consistency
        statement.is_idempotent = True
        return statement

    return Prepared(
        insert_call=ready(
            f"INSERT INTO {name}.calls (caller, hour, shard, id, text, label, score, model, from_cache) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ),
        read_calls={
            (texts, newest): ready(
                f"SELECT {_CALL if texts else _LIGHT} FROM {name}.calls WHERE {_PARTITION} "
                f"AND id >= ? AND id < ? ORDER BY id {_order(newest)}"
            )
            for texts in (False, True)
            for newest in (False, True)
        },
        delete_calls=ready(f"DELETE FROM {name}.calls WHERE {_PARTITION} AND id < ?"),
        delete_partition=ready(f"DELETE FROM {name}.calls WHERE {_PARTITION}"),
        insert_hour=ready(f"INSERT INTO {name}.hours (of_all, caller, hour) VALUES (?, ?, ?)"),
        insert_caller=ready(f"INSERT INTO {name}.callers (hour, caller) VALUES (?, ?)"),
        read_hours={
            newest: ready(
                f"SELECT hour FROM {name}.hours WHERE of_all = ? AND caller = ? AND hour >= ? AND hour < ? "
                f"ORDER BY hour {_order(newest)} LIMIT ?"
            )
            for newest in (False, True)
        },
        read_callers=ready(f"SELECT caller FROM {name}.callers WHERE hour = ?"),
        delete_hour=ready(f"DELETE FROM {name}.hours WHERE of_all = ? AND caller = ? AND hour = ?"),
        delete_callers_of_hour=ready(f"DELETE FROM {name}.callers WHERE hour = ?"),
        delete_caller_of_hour=ready(f"DELETE FROM {name}.callers WHERE hour = ? AND caller = ?"),
        read_answer=ready(f"SELECT scores, expires_at FROM {name}.answers WHERE key = ?", cache),
        insert_answer=ready(
            f"INSERT INTO {name}.answers (key, scores, expires_at) VALUES (?, ?, ?) USING TTL ?"
        ),
        write_meta=ready(f"INSERT INTO {name}.meta (name, value) VALUES (?, ?)"),
    )


def _order(newest_first: bool) -> str:
    return "DESC" if newest_first else "ASC"


def _level(name: str) -> int:
    level = ConsistencyLevel.name_to_value.get(name.upper())
    if level is None:
        known = ", ".join(sorted(ConsistencyLevel.name_to_value))
        raise StoreError(f"{name[:20]!r} is no consistency; known are {known}")
    return int(level)
