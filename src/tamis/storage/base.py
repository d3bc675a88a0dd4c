"""The interfaces of a store: a call log, a prediction cache and a feedback log. Independent of databases.

Every method belongs to one event loop, ends within the store's own timeout, and raises `StoreError` when the
store cannot do it now. A cancelled caller disturbs no other. All writes are idempotent: a call is known by
its id, an answer by its key, feedback by its caller and subject.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic

from tamis.storage.ids import moment
from tamis.storage.query import PAGE_ROWS, LogQuery, Page
from tamis.storage.rows import CallRecord, FeedbackRecord, Record

Scores = Mapping[str, float]
"""Label to probability, in double precision: what is cached comes back digit for digit."""

Answers = Mapping[bytes, Scores]
"""Cache keys (`ids.CacheKeys`) and the scores to keep under them."""


RETENTION_DAYS = 90
"""Days that a new store keeps calls; one of an older version keeps them unless a setting limits that."""


@dataclass(frozen=True, slots=True)
class Astra:
    """A database of DataStax Astra and the credentials for it; the user of a token is `token`."""

    bundle: Path
    keyspace: str
    user: str
    # a repr may be logged
    password: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Options of a store on a cluster."""

    deadline_seconds: float = 2.0
    """Timeout for one write, or one step of reading a log."""
    cache_deadline_seconds: float = 0.5
    """Timeout for a cache lookup: later, computing the answer is faster."""
    connect_seconds: float = 10.0
    log_consistency: str = "LOCAL_QUORUM"
    cache_consistency: str = "LOCAL_ONE"
    """Of lookups; answers are written with the log's consistency."""
    replication: str = ""
    """Copies of each row, `3` or `DC1:3,DC2:3`; empty is one per node, at most three."""
    log_days: int = RETENTION_DAYS
    """Days after which a call expires, set when the tables are created."""
    astra: Astra | None = None


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Options of any store."""

    full_durability: bool = False
    """Wait for the disk at every commit: survives loss of power, not only `kill -9`."""
    cache_seconds: float = 30 * 86_400.0
    cache_rows: int = 1_000_000
    is_alone: bool = False
    """No other process uses the store, so cached answers of others are not looked for."""
    lock_seconds: float = 1.0
    """How long one write may wait for another process before it fails."""
    cluster: ClusterOptions = ClusterOptions()


PartialCounts = AsyncIterator[tuple[int, Counter[tuple[str | None, ...]]]]
"""Rows counted by the values of some columns, each part with the first tick of its hour."""

PAIR_COLUMNS = ("model_name", "model_version", "predicted", "label")


@dataclass(frozen=True, slots=True)
class HourCount:
    """How many calls one UTC hour had with one label."""

    hour: datetime
    label: str
    count: int

    @classmethod
    async def sums(cls, parts: PartialCounts) -> list[HourCount]:
        """Add up counts by label, sorted by hour and label."""
        totals: Counter[tuple[int, str]] = Counter()
        async for ticks, counts in parts:
            for (label,), count in counts.items():
                totals[ticks, str(label)] += count
        return [cls(moment(hour), label, totals[hour, label]) for hour, label in sorted(totals)]


@dataclass(frozen=True, slots=True)
class LabelPairCount:
    """How often one version of a model predicted one label where the true label was another, or the same."""

    model_name: str | None
    model_version: str | None
    predicted: str | None
    label: str
    count: int

    @classmethod
    async def sums(cls, parts: PartialCounts) -> list[LabelPairCount]:
        """Add up counts by the values of `PAIR_COLUMNS`, sorted; None comes before any text."""
        totals: Counter[tuple[str | None, ...]] = Counter()
        async for _, counts in parts:
            totals.update(counts)
        # None and text cannot be compared: the flag decides first
        ordered = sorted(totals, key=lambda key: [(value is not None, value) for value in key])
        return [
            cls(name, version, predicted, str(label), totals[name, version, predicted, label])
            for name, version, predicted, label in ordered
        ]


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What a store that works reports."""

    store: str
    schema_version: int


class RecordLog(ABC, Generic[Record]):
    """Records in the order of their ids, that is of time."""

    @abstractmethod
    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[Record]:
        """Return the next page of `query`'s records after the cursor `after`."""

    @abstractmethod
    async def find(self, id: bytes, *, caller: str | None = None) -> Record | None:
        """Return the record with this id, of `caller` if one is named; None if there is none."""

    @abstractmethod
    async def delete_before(self, moment: datetime) -> int:
        """Delete the records older than `moment`, in small steps; return how many."""

    @abstractmethod
    async def delete_caller(self, caller: str) -> int:
        """Delete every record of one caller, in small steps; return how many."""


class CallLog(RecordLog[CallRecord]):
    """The log of predictions."""

    @abstractmethod
    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Log `calls`, except those that are logged already; when it returns they survive `kill -9`."""

    @abstractmethod
    async def summary(self, query: LogQuery) -> list[HourCount]:
        """Count `query`'s calls by UTC hour and label, sorted by both."""


class PredictionCache(ABC):
    """Scores under keyed digests; it may lose an answer at any time."""

    @property
    @abstractmethod
    def secret(self) -> bytes:
        """The key of 32 bytes for `ids.CacheKeys`, the same in all processes on one open store."""

    @abstractmethod
    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what is stored under each key, in their order; the order of labels is not kept."""

    @abstractmethod
    async def put_many(self, answers: Answers) -> None:
        """Store answers; a key that is in use keeps its answer until that expires."""


class FeedbackLog(RecordLog[FeedbackRecord]):
    """The log of true labels; `LogQuery.label` is the true label."""

    @abstractmethod
    async def put(self, feedback: FeedbackRecord) -> FeedbackRecord:
        """Store feedback and return the row as it is then.

        A caller's earlier row about the same subject keeps its id and takes over label, comment and
        `revision`, unless its own revision is later.
        """

    @abstractmethod
    async def pair_counts(self, query: LogQuery) -> list[LabelPairCount]:
        """Count `query`'s rows by model, version, predicted and true label, sorted by these."""


class Store(ABC):
    """The three parts of one store, which are opened, migrated and closed together."""

    log: CallLog
    cache: PredictionCache
    feedback: FeedbackLog

    @property
    def default_retention_days(self) -> int:
        """Days that a service keeps the calls of this open store by default; 0 is forever."""
        return 0

    @abstractmethod
    async def open(self) -> None:
        """Connect and check the schema's version; on an open store, connect again.

        An embedded store creates and upgrades its own tables; those of a cluster are left to `migrate`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write what is waiting and disconnect; a closed store may be closed again."""

    @abstractmethod
    async def migrate(self) -> list[str]:
        """Create the tables or upgrade them; return the names of the migrations that were run."""

    @abstractmethod
    async def check(self) -> StoreHealth:
        """Prove with a small write that the store works."""
