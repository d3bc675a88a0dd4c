"""Storage: the call log, the prediction cache and the feedback log; in memory, in SQLite, in Cassandra.

`make_store` returns the store of a URL. Imports errors and clock only; independent of models and HTTP.
`docs/storage.md` gives the design decisions.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from tamis.clock import Clock
from tamis.errors import MissingExtraError, StoreError
from tamis.events import Counters
from tamis.storage.base import (
    RETENTION_DAYS,
    Answers,
    Astra,
    CallLog,
    ClusterOptions,
    FeedbackLog,
    HourCount,
    LabelPairCount,
    PredictionCache,
    Scores,
    Store,
    StoreHealth,
    StoreOptions,
)
from tamis.storage.ids import CacheKeys, TimeIds, called_at
from tamis.storage.memory import MemoryStore
from tamis.storage.query import LogQuery, Page, pages
from tamis.storage.resilient import ResilientStore
from tamis.storage.rows import CallRecord, FeedbackRecord
from tamis.storage.spool import FileSpool, MemorySpool, Spool
from tamis.storage.sqlite import SqliteStore
from tamis.storage.sqlite.schema import tables_as_sql

__all__ = [
    "RETENTION_DAYS",
    "Answers",
    "Astra",
    "CacheKeys",
    "CallLog",
    "CallRecord",
    "ClusterOptions",
    "Counters",
    "FeedbackLog",
    "FeedbackRecord",
    "FileSpool",
    "HourCount",
    "LabelPairCount",
    "LogQuery",
    "MemorySpool",
    "Page",
    "PredictionCache",
    "ResilientStore",
    "Scores",
    "Spool",
    "Store",
    "StoreHealth",
    "StoreOptions",
    "TimeIds",
    "called_at",
    "file_of",
    "make_store",
    "pages",
    "tables_of",
]


_SQLITE = "sqlite:///"


def make_store(url: str, clock: Clock, options: StoreOptions | None = None) -> Store:
    """Return the store that `url` names; the caller opens it with `await store.open()`.

    `memory:`, or `sqlite:///` and a path: three slashes before a relative one, four before an
    absolute one, as SQLAlchemy has it. `cassandra://user:password@host1,host2/keyspace?local_dc=…`, or
    `astra:` with the database in the options.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        return MemoryStore(clock, options)
    path = file_of(url)
    if path is not None:
        return SqliteStore(path, clock, options)
    if scheme == "cassandra" or url == "astra:":
        return _cluster_store(url, clock, options or StoreOptions())
    # the URL itself is not repeated: it may hold a password
    raise StoreError(
        f"unknown store URL scheme {scheme[:20]!r}; use sqlite:///path/file.db, memory:, "
        "cassandra://host/keyspace or astra:"
    )


def _cluster_store(url: str, clock: Clock, options: StoreOptions) -> Store:
    """Import the driver only if it is needed."""
    try:
        from tamis.storage.cassandra.connect import ClusterUrl
        from tamis.storage.cassandra.store import CassandraStore
    except ModuleNotFoundError as missing:
        raise MissingExtraError(f"a store at {url.partition(':')[0]}:", "cassandra") from missing
    return CassandraStore(ClusterUrl.of(url, options.cluster.astra), clock, options)


def file_of(url: str) -> Path | None:
    """Return the file of an embedded store, None for another store."""
    path = url.removeprefix(_SQLITE)
    # as in any URL, special characters of the path are percent-encoded
    return Path(unquote(path)) if path and path != url else None


def tables_of(url: str, options: StoreOptions | None = None) -> str:
    """Return the SQL, or a cluster's CQL, that creates the tables; empty for a store without tables."""
    if file_of(url) is not None:
        return tables_as_sql()
    if url == "memory:":
        return ""
    from tamis.storage.cassandra.connect import ClusterUrl
    from tamis.storage.cassandra.migrations import all_statements
    from tamis.storage.cassandra.tables import KeyspacePlan

    options = options or StoreOptions()
    return "\n".join(all_statements(KeyspacePlan.of(ClusterUrl.of(url, options.cluster.astra), options)))
