"""The tables, and how they are made. Knows CQL as text; sends nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.cassandra.target import Target

VERSION = 1
SHARDS = 8
"""Partitions that share one caller's hour; part of the data: it must never change for a table."""

_GC_GRACE_SECONDS = 10_800
_DAY_SECONDS = 86_400
_WINDOWS = 30
"""Time windows of a table's life: a whole one is dropped at once when it has expired."""

_TABLES = """
CREATE TABLE IF NOT EXISTS {keyspace}.meta (
    name text PRIMARY KEY,
    value text
);
CREATE TABLE IF NOT EXISTS {keyspace}.answers (
    key blob PRIMARY KEY,
    scores frozen<map<text, double>>,
    expires_at bigint
) WITH default_time_to_live = {cache_seconds} AND gc_grace_seconds = {grace} AND compaction = {cache_windows};
CREATE TABLE IF NOT EXISTS {keyspace}.calls (
    caller text,
    hour timestamp,
    shard tinyint,
    id timeuuid,
    text text,
    label text,
    score double,
    model text,
    from_cache boolean,
    PRIMARY KEY ((caller, hour, shard), id)
) WITH default_time_to_live = {log_seconds} AND gc_grace_seconds = {grace} AND compaction = {log_windows};
CREATE TABLE IF NOT EXISTS {keyspace}.hours (
    of_all boolean,
    caller text,
    hour timestamp,
    PRIMARY KEY ((of_all, caller), hour)
) WITH default_time_to_live = {index_seconds} AND gc_grace_seconds = {grace} AND compaction = {log_windows};
CREATE TABLE IF NOT EXISTS {keyspace}.callers (
    hour timestamp,
    caller text,
    PRIMARY KEY (hour, caller)
) WITH default_time_to_live = {index_seconds} AND gc_grace_seconds = {grace} AND compaction = {log_windows};
INSERT INTO {keyspace}.meta (name, value) VALUES ('schema_version', '{version}');
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the tables shall be like."""

    keyspace: str
    replication: str
    """`DC1:3,DC2:3`; empty where the keyspace exists, as on Astra, whose console makes it."""
    log_days: int
    cache_seconds: int

    @classmethod
    def of(cls, target: Target, options: StoreOptions, *, local_dc: str = "", nodes: int = 3) -> Plan:
        """Return what the tables of `target` shall be like; Astra's keyspace is made in its console."""
        replication = ""
        if target.bundle is None:
            replication = full_replication(
                options.cluster.replication, local_dc=target.local_dc or local_dc, nodes=nodes
            )
        return cls(target.keyspace, replication, options.cluster.log_days, int(options.cache_seconds))


def statements(plan: Plan) -> list[str]:
    """Return the CQL that makes the keyspace and the tables; done twice it does nothing."""
    name = quoted(plan.keyspace)
    head = f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {_replication(plan.replication)};"
    tables = _TABLES.format(
        keyspace=name,
        grace=_GC_GRACE_SECONDS,
        cache_seconds=plan.cache_seconds,
        cache_windows=_windows(plan.cache_seconds),
        log_seconds=plan.log_days * _DAY_SECONDS,
        # an hour is found as long as its last call is there
        index_seconds=(plan.log_days + 1) * _DAY_SECONDS,
        log_windows=_windows(plan.log_days * _DAY_SECONDS),
        version=VERSION,
    )
    found = [f"{statement.strip()};" for statement in tables.split(";\n") if statement.strip()]
    return [head, *found] if plan.replication else found


def full_replication(asked: str, *, local_dc: str, nodes: int) -> str:
    """Return the copies for each data centre, where `asked` may be one number or nothing."""
    if ":" in asked:
        return asked
    if not local_dc:
        raise StoreError("name the data centre: --replication DC:3, or local_dc= in the store URL")
    return f"{local_dc}:{asked or min(3, nodes)}"


def quoted(name: str) -> str:
    """Return a name as CQL takes it exactly."""
    return name if re.fullmatch(r"[a-z][a-z0-9_]*", name) else f'"{name}"'


def _replication(wish: str) -> str:
    parts: Sequence[str] = wish.split(",") if wish else ()
    for part in parts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+:[1-9][0-9]?", part):
            raise StoreError(f"replication {part[:40]!r} must be a number, or like DC1:3,DC2:3")
    pairs = [part.split(":") for part in parts]
    copies = "".join(f", '{dc}': {count}" for dc, count in pairs)
    return f"{{'class': 'NetworkTopologyStrategy'{copies}}}"


def _windows(life_seconds: int) -> str:
    hours = max(1, life_seconds // 3_600 // _WINDOWS)
    return (
        "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', "
        f"'compaction_window_size': {hours}}}"
    )
