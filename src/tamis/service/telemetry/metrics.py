"""Where the parts of the service write what they see, and the page that shows it.

Never sees a caller. The cost per request is in docs/lab-notes.md.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, final

from tamis import __version__
from tamis.errors import STORE_FAULTS
from tamis.inference.batcher import BatchReport
from tamis.inference.classifier import Classifier
from tamis.inference.served_model import ServedModel
from tamis.inference.shadow import Answered, ShadowComparison
from tamis.native import is_compiled
from tamis.service.telemetry import metric_definitions as defined
from tamis.service.telemetry.exposition import exposition, head, process_exposition, sample
from tamis.service.telemetry.metric_definitions import (
    LAYOUT,
    METHODS,
    NO_ANSWER,
    OTHER,
    SECONDS,
    STATUSES,
)
from tamis.service.telemetry.metric_types import Histogram, Merge, Metric
from tamis.service.telemetry.shared_values import SharedValues, Snapshot

_METHOD_PLACES = {method: place * len(STATUSES) for place, method in enumerate(METHODS)}
_STATUS_PLACES = {int(status): place for place, status in enumerate(STATUSES) if status.isdecimal()}
_STATUS_PLACES[0] = STATUSES.index(NO_ANSWER)
_OTHER_METHOD, _OTHER_STATUS = _METHOD_PLACES[OTHER], STATUSES.index(OTHER)

_MEMORY_HITS, _STORE_HITS = (defined.CACHE_HITS.slot(layer) for layer in defined.LAYERS)
_MISSES = defined.CACHE_MISSES.first


class InferenceTotals(NamedTuple):
    """What the model has done in all processes since they started."""

    batches: float
    texts: float
    queue_seconds: float
    score_seconds: float
    hits: float
    misses: float


@final
class Metrics:
    """The metric values of this process, and the page with the totals of all processes that share its memory.

    `shared_fd` is that memory, from `make_shared_memory`; without it this process is alone.

    Belongs to the event loop's thread: an addition that two threads make at once would be lost.
    """

    def __init__(self, shared_fd: int | None = None):
        self.models: Callable[[], Sequence[ServedModel]] = list
        """Returns the loaded models."""
        self._slots = SharedValues(LAYOUT.size, LAYOUT.digest, shared_fd)
        self._values = self._slots.values
        self._in_progress = defined.REQUESTS_IN_PROGRESS.first
        self._codes = {code: defined.REFUSALS.slot(code) for code in defined.REFUSALS.labels["code"]}
        self._routes: dict[str, tuple[int, int]] = {route: _slots_of(route) for route in defined.ROUTES}
        self._duration_sum = len(SECONDS) + 1
        self.read = self._histogram(defined.STAGE, "read")
        self.store = self._histogram(defined.STAGE, "store")
        self._queue = self._histogram(defined.STAGE, "queue")
        self._score = self._histogram(defined.STAGE, "score")
        self._batch_texts = self._histogram(defined.BATCH_TEXTS)
        self._begin()

    @property
    def calls(self) -> memoryview[float]:
        """The values that a ResilientStore counts in, in the order of its `COUNTED`."""
        end = defined.STORE_FAILURES.first + len(STORE_FAULTS)
        return self._values[defined.CALLS_ACCEPTED.first : end]

    def request_began(self) -> None:
        """Count a request in progress."""
        self._values[self._in_progress] += 1.0

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a finished request; status 0 means that it got no response."""
        values = self._values
        values[self._in_progress] -= 1.0
        count, duration = self._routes[route]
        count += _METHOD_PLACES.get(method, _OTHER_METHOD)
        values[count + _STATUS_PLACES.get(status, _OTHER_STATUS)] += 1.0
        values[duration + bisect_left(SECONDS, seconds)] += 1.0
        values[duration + self._duration_sum] += seconds

    def dialect_used(self, name: str) -> None:
        """Count a request in the wire format of another server."""
        self._values[defined.DIALECT_REQUESTS.slot(name)] += 1.0

    def refused(self, code: str) -> None:
        """Count a request that was answered with an error of this code."""
        self._values[self._codes[code]] += 1.0

    def batch_ended(self, batch: BatchReport) -> None:
        """Record a scored batch and the size of the queue."""
        values = self._values
        self._queue.observe(batch.queue_seconds)
        self._score.observe(batch.score_seconds)
        self._batch_texts.observe(batch.texts)
        values[defined.QUEUE_TEXTS.first] = batch.waiting_texts
        values[defined.QUEUE_SECONDS.first] = batch.waiting_seconds

    def model_loaded(self, model: ServedModel) -> None:
        """Count a version that was loaded."""
        self._values[defined.MODEL_LOADS.first] += 1.0

    def traffic_seen(self, seen: ShadowComparison | Answered) -> None:
        """Record a comparison of two versions, or a request to a model with a canary."""
        if isinstance(seen, Answered):
            side = defined.SIDES[seen.is_canary]
            result = "error" if seen.is_error else "answered"
            self._values[defined.CANARY_REQUESTS.slot(side, result)] += 1.0
            self._histogram(defined.CANARY_SECONDS, side).observe(seen.seconds)
            return
        self._values[defined.COMPARISONS.slot(seen.result)] += 1.0
        if seen.result in ("agreed", "disagreed"):
            self._histogram(defined.COMPARISON_SECONDS).observe(seen.seconds)
            self._histogram(defined.COMPARISON_DIFFERENCE).observe(seen.difference)

    def model_refused(self) -> None:
        """Count a version that could not be loaded."""
        self._values[defined.MODEL_REFUSALS.first] += 1.0

    def looked_up(self, from_memory: int, from_store: int, unknown: int) -> None:
        """Count cache lookups by the layer that answered."""
        values = self._values
        values[_MEMORY_HITS] += from_memory
        values[_STORE_HITS] += from_store
        values[_MISSES] += unknown

    def log_read(self, reads: int, rows: int, size: int) -> None:
        """Count log reads that start (+1) or end (-1), rows read and bytes sent."""
        values = self._values
        values[defined.LOG_READS.first] += reads
        values[defined.LOG_ROWS.first] += rows
        values[defined.LOG_BYTES.first] += size

    def inference_totals(self) -> InferenceTotals:
        """Return the totals of all processes that Triton's statistics ask for."""
        columns = [*zip(*(one.values for one in self._slots.snapshots()), strict=True)]
        totals = [sum(column) for column in columns]

        def summed(metric: Metric, *labels: str) -> tuple[float, float]:
            first = metric.slot(*labels)
            last = first + len(metric.bounds) + 1
            return sum(totals[first:last]), totals[last]

        batches, texts = summed(defined.BATCH_TEXTS)
        hits = totals[_MEMORY_HITS] + totals[_STORE_HITS]
        queue, score = summed(defined.STAGE, "queue"), summed(defined.STAGE, "score")
        return InferenceTotals(batches, texts, queue[1], score[1], hits, totals[_MISSES])

    def page(self) -> bytes:
        """Return the totals of all processes in Prometheus's text format."""
        return "".join(f"{line}\n" for line in self._lines(self._slots.snapshots())).encode()

    def _begin(self) -> None:
        """Reset the gauges of an earlier process in this slot; keep its counters."""
        for family in LAYOUT.families:
            if family.merge is not Merge.SUM:
                self._values[family.first] = 0.0
        self._values[defined.WORKER_STARTS.first] += 1.0

    def _histogram(self, family: Metric, *labels: str) -> Histogram:
        return Histogram(self._values, family.slot(*labels), family.bounds)

    def _lines(self, snapshots: list[Snapshot]) -> Iterator[str]:
        yield from exposition(LAYOUT.families, snapshots)
        name, kind, help_text = defined.WORKERS
        yield from head(name, kind, help_text)
        yield sample(name, {}, sum(found.is_alive for found in snapshots))
        name, kind, help_text = defined.MODEL_INFO
        yield from head(name, kind, help_text)
        for model in self.models():
            yield sample(name, _model_labels(model.classifier), 1)
        name, kind, help_text = defined.BUILD_INFO
        yield from head(name, kind, help_text)
        yield sample(name, _build_labels(), 1)
        yield from process_exposition(snapshots)


def _slots_of(route: str) -> tuple[int, int]:
    """Return the first slots of a route's requests and of their durations."""
    return defined.REQUESTS.slot(route, METHODS[0], STATUSES[0]), defined.REQUEST_SECONDS.slot(route)


def _build_labels() -> dict[str, str]:
    scoring = "compiled" if is_compiled() else "numpy"
    return {"version": __version__, "python_version": platform.python_version(), "linear_scoring": scoring}


def _model_labels(classifier: Classifier) -> dict[str, str]:
    return {
        "name": classifier.name,
        "version": classifier.version,
        "kind": classifier.manifest.kind if classifier.manifest else "mock",
        "digest": classifier.identity,
    }
