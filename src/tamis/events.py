"""What happens while Tamis serves: frozen records, and the one place where observers subscribe.

    HTTP, cache, batcher, log, store, models ─► Events.emit ─► subscribers (telemetry/metrics.py)

A part emits what it did and knows no observer. Subscribers run on the event loop's thread before `emit`
returns: they must be short and must not raise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, final

import msgspec

from tamis.types import Prediction


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""

    # structs of msgspec without garbage collection: several are made for each request, and a frozen dataclass
    # takes ten times as long


class RequestStarted(Event, frozen=True, gc=False):
    """A request's headers arrived."""


class RequestFinished(Event, frozen=True, gc=False):
    """A response was sent, or the client left; status 0 means that it got no response."""

    route: str
    method: str
    status: int
    seconds: float
    error_code: str | None = None
    dialect: str | None = None
    """The name of another server's wire format, if the route belongs to one."""
    body_seconds: float | None = None
    """How long a valid body took to arrive and be parsed."""


class ConnectionRejected(Event, frozen=True, gc=False):
    """A connection was answered with an error before any route saw its request."""

    error_code: str


class CacheQueried(Event, frozen=True, gc=False):
    """Predictions were looked up in the cache."""

    memory_hits: int
    store_hits: int
    misses: int


class BatchScored(Event, frozen=True, gc=False):
    """A model scored a batch; `waiting_…` is the queue after it."""

    texts: int
    queue_seconds: float
    """The longest time that one of its texts was in the queue."""
    score_seconds: float
    waiting_texts: int
    waiting_seconds: float


class RowsCommitted(Event, frozen=True, gc=False):
    """Rows of the call log were committed, in the store or in the spool."""

    rows: int
    seconds: float


class TextsAnswered(Event, frozen=True, gc=False):
    """Texts of requests that arrived together were classified, logged and answered by one version."""

    digest: str
    """The identity of the version."""
    texts: Sequence[str]
    lengths: Sequence[int]
    """Characters of each text in the model's form."""
    predictions: Sequence[Prediction]


class Counters(msgspec.Struct, frozen=True, gc=False):
    """How many calls are where; `accepted == written + spooled + dropped` at every moment.

    A call is accepted when it is known which of the three it is. `spooled` goes down as calls are written.
    """

    accepted: int = 0
    written: int = 0
    spooled: int = 0
    dropped: int = 0


class StoreStateChanged(Event, frozen=True, gc=False):
    """Calls were written, spooled or dropped, or the store failed or works again."""

    counters: Counters
    is_degraded: bool
    """Whether the store fails, or the spool holds calls."""


class StoreFailed(Event, frozen=True, gc=False):
    """A store failed; `fault` is one of `STORE_FAULTS`."""

    fault: str


class LogReadStarted(Event, frozen=True, gc=False):
    """A read of the call log or of feedback started."""


class LogPageRead(Event, frozen=True, gc=False):
    """Rows were read, and sent as so many bytes."""

    rows: int
    bytes_sent: int


class LogReadFinished(Event, frozen=True, gc=False):
    """A read ended, or its client left."""


class ModelLoaded(Event, frozen=True, gc=False):
    """A version passed its checks and can answer."""

    name: str
    version: str


class ModelRefused(Event, frozen=True, gc=False):
    """A version could not be loaded, or failed its self-test."""

    name: str
    version: str


AnEvent = TypeVar("AnEvent", bound=Event)


@final
class Events:
    """Passes each event to the subscribers of its type, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)

    def subscribe(self, event_type: type[AnEvent], subscriber: Callable[[AnEvent], None]) -> None:
        """Call `subscriber` with every event of this type."""
        self._subscribers[event_type].append(subscriber)

    def subscribers(self, event_type: type[AnEvent]) -> Sequence[Callable[[AnEvent], None]]:
        """Return the list of a type's subscribers, which later ones extend; for events of every request."""
        return self._subscribers[event_type]

    def emit(self, event: Event) -> None:
        """Call the subscribers of the event's type."""
        for subscriber in self._subscribers[type(event)]:
            subscriber(event)
