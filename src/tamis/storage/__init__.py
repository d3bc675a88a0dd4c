"""Storage: the call log, the prediction cache and the feedback log; in memory, in SQLite, in Cassandra.

Imports errors and clock only; knows neither models nor HTTP. `docs/storage.md` gives the design decisions.
"""

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
from tamis.storage.query import LogQuery, Page, pages
from tamis.storage.resilient import ResilientStore
from tamis.storage.rows import CallRecord, FeedbackRecord
from tamis.storage.spool import FileSpool, MemorySpool, Spool
from tamis.storage.urls import file_of, make_store, tables_of

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
