"""Where calls are logged and answers are remembered: in memory, in SQLite, in Cassandra.

Knows records, errors and the clock; knows neither models nor HTTP. `docs/storage.md` says why it
is built as it is.
"""

from tamis.storage.base import (
    Answers,
    Astra,
    CallQuery,
    ClusterOptions,
    Health,
    HourCount,
    Page,
    Scores,
    Store,
    StoreOptions,
    pages,
)
from tamis.storage.keys import CacheKeys, TimeIds, called_at
from tamis.storage.resilient import Counters, ResilientStore
from tamis.storage.spool import FileSpool, MemorySpool, Spool
from tamis.storage.urls import file_of, make_store, tables_of

__all__ = [
    "Answers",
    "Astra",
    "CacheKeys",
    "CallQuery",
    "ClusterOptions",
    "Counters",
    "Health",
    "FileSpool",
    "HourCount",
    "MemorySpool",
    "Page",
    "ResilientStore",
    "Scores",
    "Spool",
    "Store",
    "StoreOptions",
    "TimeIds",
    "called_at",
    "file_of",
    "make_store",
    "pages",
    "tables_of",
]
