"""Second scoring for a shadow or a canary, beside the traffic.

    submit ─► queue, 256 texts at most ─► one thread: score with the other version ─► counts, log
         └──► dropped: the queue is full, or predictions wait

It never delays an answer and takes a quarter of a processor at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, final

from tamis.clock import Clock
from tamis.inference.traffic_counts import TrafficCounts

if TYPE_CHECKING:
    from tamis.inference.served_model import ServedModel
    from tamis.types import Prediction

# a shadow that is slower than the traffic drops texts instead of keeping ever more
_MAX_QUEUE = 256
_REST = 3.0
"""After a text the thread rests for this many times its duration: a shadow gets a quarter of a processor."""

_LOG_SECONDS = 1.0
"""Minimum time between two log lines about disagreements."""

_log = logging.getLogger(__name__)


class ComparisonTask(NamedTuple):
    """A text, the answer that was given, and the version that is to score it again."""

    text: str
    answer: Prediction
    served: ServedModel
    other: ServedModel
    counts: TrafficCounts


@final
class Comparer:
    """Scores texts with a second version in a thread, one at a time; belongs to the event loop's thread."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._queue: deque[ComparisonTask] = deque()
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tamis-shadow")
        self._logged_at = float("-inf")

    def submit(self, task: ComparisonTask) -> None:
        """Queue a text, or drop it if the queue is full or predictions wait."""
        if len(self._queue) >= _MAX_QUEUE or task.served.batcher.waiting_texts:
            task.counts.compared("dropped")
            return
        self._queue.append(task)
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def finish(self) -> None:
        """Wait until the queue is empty."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def close(self) -> None:
        """Discard the queue and end the thread."""
        self._queue.clear()
        if self._working is not None:
            self._working.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        while self._queue:
            began = self._clock.monotonic()
            await self._compare(self._queue.popleft(), began)
            # also while texts wait: predictions need the processor more
            await self._clock.sleep((self._clock.monotonic() - began) * _REST)

    async def _compare(self, task: ComparisonTask, began: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            other = await loop.run_in_executor(self._thread, task.other.classifier.predict, task.text)
        except Exception as failed:  # noqa: BLE001 - outermost of this task: a version on trial may fail in any way
            task.counts.compared("failed")
            _log.warning("shadow failed", extra={"fields": _named(task, error=type(failed).__name__)})
            return
        label = task.answer.label
        difference = abs(other.scores.get(label, 0.0) - task.answer.score)
        is_same, seconds = other.label == label, self._clock.monotonic() - began
        task.counts.compared("agreed" if is_same else "disagreed", seconds, difference)
        if not is_same and began - self._logged_at >= _LOG_SECONDS:
            self._logged_at = began
            fields = _named(task, answered=label, other=other.label, difference=round(difference, 4))
            _log.info("shadow disagreed", extra={"fields": fields})


def _named(task: ComparisonTask, **fields: object) -> dict[str, object]:
    return {"model": task.served.name, "version": task.served.version, "beside": task.other.version, **fields}
