"""What a store does, whatever it is made of. Knows records and time ids; knows no database."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from tamis.errors import InputError
from tamis.types import CallRecord

Scores = Mapping[str, float]
"""Label to probability, in double precision: what is cached comes back digit for digit."""

Answers = Mapping[bytes, Scores]
"""Cache keys (`keys.CacheKeys`) and the scores to remember under them."""

NO_ANSWERS: Answers = MappingProxyType({})

PAGE_ROWS = 500
"""Rows of a page where the caller does not say."""

PAGE_CHARS = 32_768
"""A page ends with the row that reaches so many characters of text: its size does not depend on theirs."""


@dataclass(frozen=True, slots=True)
class Astra:
    """Where a database of DataStax Astra is, and who asks: a token's user is called `token`."""

    bundle: Path
    keyspace: str
    user: str
    password: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What an operator may choose about a store on a cluster."""

    deadline_seconds: float = 2.0
    """Longest that one write, or one step of reading the log, may take."""
    cache_deadline_seconds: float = 0.5
    """Longest that a look-up may take: later, computing the answer is quicker."""
    connect_seconds: float = 10.0
    log_consistency: str = "LOCAL_QUORUM"
    cache_consistency: str = "LOCAL_ONE"
    """Of look-ups; answers are written with the log's consistency."""
    replication: str = ""
    """Copies of each row, `3` or `DC1:3,DC2:3`; empty is one on each node, three at most."""
    log_days: int = 90
    """Days after which the tables, when they are made, forget a call."""
    astra: Astra | None = None


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What an operator may choose about any store."""

    full_durability: bool = False
    """Wait for the disk at every commit: survives loss of power, not only `kill -9`."""
    cache_seconds: float = 30 * 86_400.0
    cache_rows: int = 1_000_000
    is_alone: bool = False
    """No other process uses the store: it may hear of answers, not of calls, a few milliseconds late."""
    lock_seconds: float = 1.0
    """How long one write may wait for another process before it fails."""
    cluster: ClusterOptions = ClusterOptions()


@dataclass(frozen=True, slots=True)
class CallQuery:
    """Which calls to read: everything that is None is not asked for.

    `since` is inside the range and `until` is not; both are aware datetimes. `contains` finds a
    part of the text and ignores the case of ASCII letters. A cluster answers best when `caller`
    and both ends of the range are given: it keeps one caller's hour together.
    """

    caller: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    label: str | None = None
    contains: str | None = None
    model: str | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Some calls in order of time; `cursor` leads to what follows and is None at the end.

    A page may hold fewer calls than asked for, or none, while a cursor says that more may follow:
    a search reads a bounded number of rows at a time, and a page holds a bounded amount of text.
    """

    calls: Sequence[CallRecord]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class HourCount:
    """How many calls one UTC hour saw with one label."""

    hour: datetime
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Health:
    """What a store that works says of itself."""

    store: str
    schema_version: int


class Store(ABC):
    """A call log and a prediction cache.

    Every method belongs to one event loop, ends within the store's own deadline, and raises
    `StoreError` when the store cannot do it now. A cancelled caller disturbs no other. All writes
    are idempotent: a call is known by its id, an answer by its key.
    """

    @abstractmethod
    async def open(self) -> None:
        """Connect and check the schema's version; on an open store, connect afresh.

        An embedded store creates and upgrades its own tables; a cluster's are left to `migrate`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write what is waiting and disconnect; a closed store may be closed again."""

    @abstractmethod
    async def migrate(self) -> None:
        """Create the tables, or bring them up to this version of Tamis; done twice it does nothing."""

    @abstractmethod
    async def check(self) -> Health:
        """Prove with a small write that the store works."""

    @property
    @abstractmethod
    def secret(self) -> bytes:
        """The key of 32 bytes for `keys.CacheKeys`, one for all processes on the same open store."""

    @abstractmethod
    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what is remembered under each key, in their order; the order of labels is not kept."""

    @abstractmethod
    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Log `calls` and remember `answers`; when it returns the calls survive `kill -9`.

        A key that is already remembered keeps its answer until that expires.
        """

    @abstractmethod
    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Return the next page of `query`'s calls behind the cursor `after`."""

    @abstractmethod
    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count `query`'s calls by UTC hour and label, sorted by both."""

    @abstractmethod
    async def delete_before(self, moment: datetime) -> int:
        """Delete the calls older than `moment`, in small steps; return how many."""

    @abstractmethod
    async def delete_caller(self, caller: str) -> int:
        """Delete every call of one caller, in small steps; return how many."""


async def pages(
    store: Store, query: CallQuery, *, limit: int = PAGE_ROWS
) -> AsyncIterator[Sequence[CallRecord]]:
    """Yield all calls of `query` a page at a time; nothing is held between two pages."""
    page = await store.calls(query, limit=limit)
    while True:
        if page.calls:
            yield page.calls
        if page.cursor is None:
            return
        page = await store.calls(query, after=page.cursor, limit=limit)


def check_calls(calls: Iterable[CallRecord]) -> None:
    """Refuse what some store could not keep, before it shares a transaction with others."""
    for call in calls:
        if not math.isfinite(call.score):
            raise InputError("score_not_finite", "a logged score must be a finite number", field="score")
        # by far most are ASCII, which one look tells
        if not f"{call.text}{call.caller}{call.label}{call.model}".isascii():
            for field in ("text", "caller", "label", "model"):
                _check_encodable(getattr(call, field), field)


def _check_encodable(value: str, field: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{field} holds half of a surrogate pair, which is no character"
        raise InputError("lone_surrogate", message, field=field) from None
