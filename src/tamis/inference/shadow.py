"""Shadow and canary: which version answers a caller, and how another one would have answered.

    traffic.json ─► refresh ─► choose: the served version, or the canary for its share of the callers
                                  │
    the answer ◄──────────────────┘─► Comparer: the other version scores the text in one thread, later

The comparison never delays an answer: its queue is bounded, and texts are dropped while predictions wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

from tamis.artifact.manifest import FileStamp, file_stamp
from tamis.artifact.traffic import TRAFFIC_FILE, Canary, TrafficPlan, read_traffic, stop_canary
from tamis.clock import Clock
from tamis.errors import ArtifactError, InputError
from tamis.events import CanaryAnswered, Events, TextCompared
from tamis.proportions import wilson

if TYPE_CHECKING:
    from tamis.inference.model_pool import ModelPool
    from tamis.inference.served_model import Entry, ServedModel
    from tamis.types import Prediction

_MAX_QUEUE = 256
_REST = 3.0
"""After a text the thread rests for this many times its duration: a shadow gets a quarter of a processor."""

_MIN_OBSERVATIONS = 30
"""A canary is not aborted on fewer requests or comparisons."""

_LOG_SECONDS = 1.0
"""Disagreements are logged at most once in this time."""

_log = logging.getLogger(__name__)


class ComparisonTask(NamedTuple):
    """A text, the answer that was given, and the version that is to score it again."""

    text: str
    answer: Prediction
    served: ServedModel
    other: ServedModel
    plan: ModelTraffic | None
    """Whose disagreements count against its canary."""


@dataclass(eq=False)
class ModelTraffic:
    """The plan of one model with its loaded versions, and what this process has seen of the canary."""

    folder: Path
    plan: TrafficPlan
    canary: ServedModel | None = None
    shadow: ServedModel | None = None
    requests: int = 0
    errors: int = 0
    compared: int = 0
    disagreed: int = 0

    @property
    def excess(self) -> str:
        """Why the canary must be aborted; empty while its rates are within their bounds."""
        canary = self.plan.canary
        if canary is None:
            return ""
        for name, count, total, bound in (
            ("errors", self.errors, self.requests, canary.max_errors),
            ("disagreement", self.disagreed, self.compared, canary.max_disagreement),
        ):
            if bound is not None and total >= _MIN_OBSERVATIONS and wilson(count, total)[0] > bound:
                return f"{name}: {count} of {total} is over {bound:.2%}"
        return ""


@final
class Comparer:
    """Scores texts with a second version in a thread, one at a time; belongs to the event loop's thread."""

    def __init__(self, clock: Clock, events: Events, on_compared: Callable[[ModelTraffic, bool], None]):
        self._clock, self._emit, self._on_compared = clock, events.emit, on_compared
        self._queue: deque[ComparisonTask] = deque()
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tamis-shadow")
        self._logged_at = float("-inf")

    def submit(self, task: ComparisonTask) -> None:
        """Queue a text, or drop it if the queue is full or predictions wait."""
        if len(self._queue) >= _MAX_QUEUE or task.served.batcher.waiting_texts:
            self._emit(TextCompared("dropped"))
            return
        self._queue.append(task)
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def finish(self) -> None:
        """Wait until the queue is empty."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def close(self) -> None:
        """Forget what is queued and end the thread."""
        self._queue.clear()
        if self._working is not None:
            self._working.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        while self._queue:
            began = self._clock.monotonic()
            await self._compare(self._queue.popleft(), began)
            await self._clock.sleep((self._clock.monotonic() - began) * _REST)

    async def _compare(self, task: ComparisonTask, began: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            other = await loop.run_in_executor(self._thread, task.other.classifier.predict, task.text)
        except Exception as failed:  # noqa: BLE001 - a version on trial may fail in any way
            self._emit(TextCompared("failed", self._clock.monotonic() - began))
            _log.warning("shadow failed", extra={"fields": _named(task, error=type(failed).__name__)})
            return
        label = task.answer.label
        difference = abs(other.scores.get(label, 0.0) - task.answer.score)
        is_same, seconds = other.label == label, self._clock.monotonic() - began
        self._emit(TextCompared("agreed" if is_same else "disagreed", seconds, difference))
        if not is_same and began - self._logged_at >= _LOG_SECONDS:
            self._logged_at = began
            fields = _named(task, answered=label, other=other.label, difference=round(difference, 4))
            _log.info("shadow disagreed", extra={"fields": fields})
        if task.plan is not None:
            self._on_compared(task.plan, is_same)


@final
class Traffic:
    """Follows every model's `traffic.json`; `models` has those with a canary or a shadow."""

    def __init__(self, pool: ModelPool, clock: Clock, events: Events):
        self.models: dict[str, ModelTraffic] = {}
        self._pool, self._clock, self._emit = pool, clock, events.emit
        self.comparer = Comparer(clock, events, self._compared)
        self._stamps: dict[str, FileStamp | None] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def choose(self, model: ServedModel, caller: str) -> ServedModel:
        """Return the version that answers this caller: the canary, or `model`."""
        found = self.models.get(model.name)
        if found is None or found.canary is None or found.plan.canary is None:
            return model
        return found.canary if found.plan.canary.takes(caller) else model

    def answered(
        self, model: ServedModel, texts: Sequence[str], answers: Sequence[Prediction], seconds: float
    ) -> None:
        """Count a request of the canary's model, and queue its texts for comparison."""
        found = self.models.get(model.name)
        if found is None:
            return
        is_canary = model is found.canary
        self._count(found, CanaryAnswered(is_canary, False, seconds))
        current = self._pool.entries[model.name].current
        canary = found.plan.canary
        for text, answer in zip(texts, answers, strict=True):
            if is_canary and canary is not None and canary.max_disagreement is not None and current:
                self.comparer.submit(ComparisonTask(text, answer, model, current, found))
            elif not is_canary and found.shadow is not None:
                self.comparer.submit(ComparisonTask(text, answer, model, found.shadow, None))

    def failed(self, model: ServedModel, seconds: float) -> None:
        """Count a request that a version failed on."""
        if (found := self.models.get(model.name)) is not None:
            self._count(found, CanaryAnswered(model is found.canary, True, seconds))

    async def refresh(self) -> None:
        """Follow the plans that have changed; one that cannot be followed leaves the old one in force."""
        for entry in self._pool.entries.values():
            if entry.folder is None:
                continue
            stamp = file_stamp(entry.folder / TRAFFIC_FILE)
            if self._stamps.get(entry.name) == stamp:
                continue
            self._stamps[entry.name] = stamp
            try:
                await self._follow(entry, entry.folder)
            except (ArtifactError, InputError, OSError) as wrong:
                fields = {"model": entry.name, "reason": str(wrong)}
                _log.error("traffic refused", extra={"fields": fields})

    async def watch(self, seconds: float) -> None:
        """Refresh again and again, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except Exception as failed:  # noqa: BLE001 - the next change must still be seen
                _log.error("traffic not refreshed", extra={"fields": {"error": type(failed).__name__}})

    async def close(self) -> None:
        """End the comparisons."""
        if self._stopping:
            await asyncio.wait(self._stopping)
        await self.comparer.close()

    async def _follow(self, entry: Entry, folder: Path) -> None:
        plan, before = read_traffic(folder), self.models.get(entry.name)
        found = ModelTraffic(folder, plan)
        if plan.canary is not None:
            found.canary = await self._pool.load(entry.name, str(plan.canary.version))
        if plan.shadow is not None:
            found.shadow = await self._pool.load(entry.name, str(plan.shadow))
        if before is not None and before.plan.canary == plan.canary:
            found.requests, found.errors = before.requests, before.errors
            found.compared, found.disagreed = before.compared, before.disagreed
        if found.canary is None and found.shadow is None:
            self.models.pop(entry.name, None)
        else:
            self.models[entry.name] = found
        kept = {one.version for one in (found.canary, found.shadow) if one is not None}
        for old in (before.canary, before.shadow) if before is not None else ():
            if old is not None and old.version not in kept and old is not entry.current:
                entry.pinned.discard(old.version)
                entry.loaded.pop(old.version, None)
        fields = {"model": entry.name, "canary": _version(plan.canary), "shadow": plan.shadow}
        _log.info("traffic changed", extra={"fields": fields})

    def _count(self, found: ModelTraffic, answered: CanaryAnswered) -> None:
        if found.canary is None:
            return
        self._emit(answered)
        if answered.is_canary:
            found.requests += 1
            found.errors += answered.is_error
            self._abort_if_exceeded(found)

    def _compared(self, found: ModelTraffic, is_same: bool) -> None:
        found.compared += 1
        found.disagreed += not is_same
        self._abort_if_exceeded(found)

    def _abort_if_exceeded(self, found: ModelTraffic) -> None:
        """Stop a canary at once here, and by its file in the other workers."""
        why, canary = found.excess, found.plan.canary
        if not why or found.canary is None or canary is None:
            return
        name, found.canary = found.canary.name, None
        fields = {"model": name, "version": canary.version, "reason": why}
        _log.error("canary aborted", extra={"fields": fields})
        task = asyncio.get_running_loop().create_task(_stop(found.folder, canary.key, why))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


async def _stop(folder: Path, key: str, reason: str) -> None:
    try:
        await asyncio.to_thread(stop_canary, folder, key=key, reason=reason)
    except (ArtifactError, OSError) as failed:
        fields = {"model": folder.name, "reason": str(failed)}
        _log.error("canary file not changed", extra={"fields": fields})


def _named(task: ComparisonTask, **fields: object) -> dict[str, object]:
    return {"model": task.served.name, "version": task.served.version, "beside": task.other.version, **fields}


def _version(canary: Canary | None) -> int | None:
    return None if canary is None else canary.version
