"""The tables of a keyspace. Builds CQL as text; sends nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Generic
from uuid import UUID

from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.cassandra.connect import ClusterUrl
from tamis.storage.ids import as_uuid, from_uuid
from tamis.storage.query import FILTERS
from tamis.storage.rows import CallRecord, FeedbackRecord, Record, columns_of, from_columns

_TIME_IDS = {"id", "revision"}
"""Columns of type timeuuid."""

# three hours, as long as hints are kept; the default of ten days would keep expired rows as tombstones
_GC_GRACE_SECONDS = 10_800
_DAY_SECONDS = 86_400
_WINDOWS = 30
"""Time windows per lifetime of a table: a whole one is dropped at once when it has expired."""


@dataclass(frozen=True)
class LogTable(Generic[Record]):
    """A log in partitions of one caller's UTC hour and shard, and the tables that index its partitions."""

    name: str
    record: type[Record]
    shards: int
    """Partitions of one caller's hour. It must never change: the ids of stored rows would lead elsewhere."""
    hours: str
    callers: str
    light: tuple[str, ...]
    """The columns that counting and merging need: all but the texts."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a record."""
        return columns_of(self.record)

    def values_of(self, row: Record) -> list[object]:
        """Return a row's values in the order of its columns, without the caller, which the partition has."""
        values = [(name, getattr(row, name)) for name in self.columns if name != "caller"]
        return [as_uuid(value) if name in _TIME_IDS else value for name, value in values]

    def record_of(self, row: Sequence[object]) -> Record:
        """Return the record of a row with all columns."""
        return from_columns(self.record, self.columns, [*map(_loaded, row)])

    def light_of(self, caller: str, row: Sequence[object]) -> SimpleNamespace:
        """Return the row of a caller that was read without its text."""
        return SimpleNamespace(caller=caller, **dict(zip(self.light, map(_loaded, row), strict=True)))


def _loaded(value: object) -> object:
    return from_uuid(value) if isinstance(value, UUID) else value


# 8 shards: 800,000 calls of one caller's hour at 100,000 rows per partition
CALLS = LogTable("calls", CallRecord, 8, hours="hours", callers="callers", light=("id", *FILTERS))
FEEDBACK = LogTable(
    "feedback",
    FeedbackRecord,
    1,
    hours="feedback_hours",
    callers="feedback_callers",
    light=("id", *FILTERS, "predicted", "subject"),
)

TABLES = """
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
"""

PREDICTION_COLUMNS = ("decision", "model_name", "model_version")
"""Columns of type text that `calls` did not have at first."""

FEEDBACK_TABLES = """
CREATE TABLE IF NOT EXISTS {keyspace}.feedback (
    caller text,
    hour timestamp,
    shard tinyint,
    id timeuuid,
    subject blob,
    text text,
    label text,
    predicted text,
    model text,
    model_name text,
    model_version text,
    comment text,
    revision timeuuid,
    PRIMARY KEY ((caller, hour, shard), id)
);
CREATE TABLE IF NOT EXISTS {keyspace}.feedback_subjects (
    caller text,
    subject blob,
    id timeuuid,
    PRIMARY KEY ((caller, subject))
);
CREATE TABLE IF NOT EXISTS {keyspace}.feedback_hours (
    of_all boolean,
    caller text,
    hour timestamp,
    PRIMARY KEY ((of_all, caller), hour)
);
CREATE TABLE IF NOT EXISTS {keyspace}.feedback_callers (
    hour timestamp,
    caller text,
    PRIMARY KEY (hour, caller)
);
"""


@dataclass(frozen=True, slots=True)
class KeyspacePlan:
    """The properties of a keyspace that is to be created."""

    keyspace: str
    replication: str
    """`DC1:3,DC2:3`; empty if the keyspace exists, as on Astra, where the console creates it."""
    log_days: int
    cache_seconds: int

    @classmethod
    def of(
        cls, url: ClusterUrl, options: StoreOptions, *, local_dc: str = "", nodes: int = 3
    ) -> KeyspacePlan:
        """Return the plan for a URL; a keyspace on Astra is created in its console."""
        replication = ""
        if url.bundle is None:
            replication = full_replication(
                options.cluster.replication, local_dc=url.local_dc or local_dc, nodes=nodes
            )
        return cls(url.keyspace, replication, options.cluster.log_days, int(options.cache_seconds))

    def create_keyspace(self) -> list[str]:
        """Return the CQL that creates the keyspace, if it is not created elsewhere."""
        if not self.replication:
            return []
        replication = _replication(self.replication)
        return [f"CREATE KEYSPACE IF NOT EXISTS {quoted(self.keyspace)} WITH replication = {replication};"]

    def statements(self, tables: str) -> list[str]:
        """Return the statements of `tables` for this keyspace."""
        filled = tables.format(
            keyspace=quoted(self.keyspace),
            grace=_GC_GRACE_SECONDS,
            cache_seconds=self.cache_seconds,
            cache_windows=_windows(self.cache_seconds),
            log_seconds=self.log_days * _DAY_SECONDS,
            # an hour stays in the index as long as its last call
            index_seconds=(self.log_days + 1) * _DAY_SECONDS,
            log_windows=_windows(self.log_days * _DAY_SECONDS),
        )
        return [f"{statement.strip()};" for statement in filled.split(";\n") if statement.strip()]


def full_replication(requested: str, *, local_dc: str, nodes: int) -> str:
    """Return the copies for each data centre; `requested` may be one number or empty."""
    if ":" in requested:
        return requested
    if not local_dc:
        raise StoreError("no data centre; use --replication DC:3, or local_dc= in the store URL")
    return f"{local_dc}:{requested or min(3, nodes)}"


def quoted(name: str) -> str:
    """Return a name as CQL takes it exactly."""
    # unquoted names are folded to lower case
    return name if re.fullmatch(r"[a-z][a-z0-9_]*", name) else f'"{name}"'


def _replication(requested: str) -> str:
    parts: Sequence[str] = requested.split(",") if requested else ()
    for part in parts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+:[1-9][0-9]?", part):
            raise StoreError(f"invalid replication {part[:40]!r}; use a number, or DC1:3,DC2:3")
    pairs = [part.split(":") for part in parts]
    copies = "".join(f", '{dc}': {count}" for dc, count in pairs)
    return f"{{'class': 'NetworkTopologyStrategy'{copies}}}"


def _windows(life_seconds: int) -> str:
    hours = max(1, life_seconds // 3_600 // _WINDOWS)
    return (
        "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', "
        f"'compaction_window_size': {hours}}}"
    )
