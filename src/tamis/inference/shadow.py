"""Shadow and canary: which version answers a caller, and how another one would have answered.

    traffic.json ─► refresh ─► choose: the served version, or the canary for its share of the callers
                                  │
    the answer ◄──────────────────┘─► Comparer: the other version scores the text in one thread, later

Every 0.2 s the counts of all workers are added up, and a canary that is over a bound is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from tamis.artifact.manifest import FileStamp, file_stamp
from tamis.artifact.traffic import TRAFFIC_FILE, Canary, TrafficPlan, read_traffic, stop_canary
from tamis.clock import Clock
from tamis.errors import ArtifactError, InputError
from tamis.inference.comparer import Comparer, ComparisonTask
from tamis.inference.traffic_counts import TrafficCounts

if TYPE_CHECKING:
    from tamis.inference.model_pool import ModelPool
    from tamis.inference.served_model import Entry, ServedModel
    from tamis.types import Prediction

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrafficSide:
    """A version beside the served one, the canary or the shadow, and what all workers have counted of it."""

    model: ServedModel
    counts: TrafficCounts


@dataclass(eq=False)
class ModelTraffic:
    """The plan of one model with its loaded versions."""

    folder: Path
    plan: TrafficPlan
    canary: TrafficSide | None = None
    shadow: TrafficSide | None = None
    is_aborted: bool = False
    """Whether the canary exceeded a bound; then it answers no request, even if its file cannot be changed."""

    @property
    def trials(self) -> list[TrafficSide]:
        """The canary and the shadow, as far as they exist."""
        return [trial for trial in (self.canary, self.shadow) if trial is not None]


@final
class Traffic:
    """Follows every model's `traffic.json`; `models` has those with a canary or a shadow.

    `directory` is where counts are kept; None is a folder `traffic` beside the versions of each model.
    """

    def __init__(self, pool: ModelPool, clock: Clock, *, directory: Path | None = None):
        self.models: dict[str, ModelTraffic] = {}
        self._pool, self._clock, self._directory = pool, clock, directory
        self.comparer = Comparer(clock)
        self._stamps: dict[str, FileStamp | None] = {}

    def choose(self, model: ServedModel, caller: str) -> ServedModel:
        """Return the version that answers this caller: the canary, or `model`."""
        found = self.models.get(model.name)
        if found is None or found.canary is None or found.plan.canary is None or found.is_aborted:
            return model
        return found.canary.model if found.plan.canary.takes(caller) else model

    def answered(
        self, model: ServedModel, texts: Sequence[str], answers: Sequence[Prediction], seconds: float
    ) -> None:
        """Count a request of the canary's model, and queue its texts for comparison."""
        found = self.models.get(model.name)
        if found is None:
            return
        labels = [answer.label for answer in answers]
        is_canary = self._count(found, model, seconds, labels)
        served, beside = self._pool.entries[model.name].current, found.shadow
        if is_canary:
            plan = found.plan.canary
            # only a bound on disagreement needs the second scoring, which doubles the work for these texts
            is_compared = plan is not None and plan.max_disagreement is not None
            beside = (
                TrafficSide(served, found.canary.counts) if served and found.canary and is_compared else None
            )
        if beside is not None:
            for text, answer in zip(texts, answers, strict=True):
                self.comparer.submit(ComparisonTask(text, answer, model, beside.model, beside.counts))

    def failed(self, model: ServedModel, seconds: float) -> None:
        """Count a request on which a version failed."""
        if (found := self.models.get(model.name)) is not None:
            self._count(found, model, seconds, None)

    def reports(self) -> Iterator[tuple[ServedModel, str, TrafficSide]]:
        """Yield the served version, `canary` or `shadow`, and that version with its counts."""
        for name, found in self.models.items():
            served = self._pool.entries[name].current
            for role, trial in (("canary", found.canary), ("shadow", found.shadow)):
                if served is not None and trial is not None:
                    yield served, role, trial

    async def refresh(self) -> None:
        """Follow the plans that have changed; one that cannot be followed leaves the old one in force."""
        for entry in self._pool.entries.values():
            if entry.folder is None:
                continue
            stamp = file_stamp(entry.folder / TRAFFIC_FILE)
            if self._stamps.get(entry.name) == stamp:
                continue
            # before it is followed: a plan that is refused is not tried, and logged, at every look
            self._stamps[entry.name] = stamp
            try:
                await self._follow(entry, entry.folder)
            except (ArtifactError, InputError, OSError) as wrong:
                fields = {"model": entry.name, "reason": str(wrong)}
                _log.error("traffic refused", extra={"fields": fields})

    async def watch(self, seconds: float) -> None:
        """Call `refresh` and `add_up` every `seconds`, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
                await self.add_up()
            except Exception as failed:  # noqa: BLE001 - outermost of this task: it must see the next change
                _log.error("traffic not refreshed", extra={"fields": {"error": type(failed).__name__}})

    async def add_up(self) -> None:
        """Add this worker's counts to those of all workers; abort a canary that exceeds a bound."""
        # a copy: `refresh` may change the mapping while a flush waits
        for found in [*self.models.values()]:
            for trial in found.trials:
                await trial.counts.flush()
            await self._abort_if_exceeded(found)

    async def close(self) -> None:
        """End the comparisons and write the counts."""
        await self.comparer.close()
        for found in self.models.values():
            for trial in found.trials:
                with suppress(TimeoutError):  # a stopped process has the lock: the counts of 0.2 s are lost
                    await trial.counts.flush()
                trial.counts.close()

    async def _follow(self, entry: Entry, folder: Path) -> None:
        plan, before = read_traffic(folder), self.models.get(entry.name)
        found = ModelTraffic(folder, plan)
        # both versions are loaded before a file is opened: a plan that cannot be followed leaves none open
        canary, shadow = [
            None if version is None else await self._pool.load(entry.name, str(version))
            for version in (_version(plan.canary), plan.shadow)
        ]
        if plan.canary is not None and canary is not None:
            name = f"canary-{plan.canary.key[:16]}"
            found.canary = self._side(entry, canary, name, before.canary if before else None)
        if shadow is not None:
            name = f"shadow-{plan.shadow}"
            found.shadow = self._side(entry, shadow, name, before.shadow if before else None)
        self.models.pop(entry.name, None)
        if found.trials:
            self.models[entry.name] = found
        self._forget(entry, before.trials if before is not None else [], found.trials)
        fields = {"model": entry.name, "canary": _version(plan.canary), "shadow": plan.shadow}
        _log.info("traffic changed", extra={"fields": fields})

    def _side(self, entry: Entry, model: ServedModel, name: str, before: TrafficSide | None) -> TrafficSide:
        """Return a version with its counts, which are continued if the plan is unchanged."""
        if before is not None and before.counts.path.stem == name:
            return TrafficSide(model, before.counts)
        # labels of the plan's version alone: the file has the same shape in every worker, whatever is served
        path = self._folder_of(entry) / f"{name}.counts"
        return TrafficSide(model, TrafficCounts(path, model.classifier.labels))

    def _folder_of(self, entry: Entry) -> Path:
        assert entry.folder is not None
        return self._directory / entry.name if self._directory is not None else entry.folder / "traffic"

    def _forget(self, entry: Entry, before: Sequence[TrafficSide], trials: Sequence[TrafficSide]) -> None:
        """Unload versions that are no longer a canary or shadow, and delete all other files of counts."""
        versions = {trial.model.version for trial in trials}
        for old in before:
            if old.counts not in [trial.counts for trial in trials]:
                old.counts.close()
            if old.model.version not in versions and old.model is not entry.current:
                entry.pinned.discard(old.model.version)
                entry.loaded.pop(old.model.version, None)
        if entry.folder is None or file_stamp(entry.folder / TRAFFIC_FILE) != self._stamps.get(entry.name):
            return  # a newer plan is to be followed, and another worker may have begun its counts
        kept = {trial.counts.path for trial in trials}
        for path in self._folder_of(entry).glob("*.counts"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _count(
        self, found: ModelTraffic, model: ServedModel, seconds: float, labels: Sequence[str] | None
    ) -> bool:
        """Count a request if it is one of the canary's two sides; return whether the canary answered."""
        canary, served = found.canary, self._pool.entries[model.name].current
        is_canary = canary is not None and model is canary.model
        if canary is not None and (is_canary or model is served):
            canary.counts.answered(
                is_canary=is_canary, is_error=labels is None, seconds=seconds, labels=labels or ()
            )
        return is_canary

    async def _abort_if_exceeded(self, found: ModelTraffic) -> None:
        """Stop a canary here, and by its file in the other workers."""
        trial, plan = found.canary, found.plan.canary
        why = trial.counts.excess(plan) if trial is not None and plan is not None else ""
        if trial is None or plan is None or not why or found.is_aborted:
            return
        # at once and without the file, which may be slow to write or read-only
        found.is_aborted = True
        fields = {"model": trial.model.name, "version": plan.version, "reason": why}
        _log.error("canary aborted", extra={"fields": fields})
        try:
            await asyncio.to_thread(stop_canary, found.folder, key=plan.key, reason=why)
        except (ArtifactError, OSError) as failed:
            fields = {"model": found.folder.name, "reason": str(failed)}
            _log.error("canary file not changed", extra={"fields": fields})


def _version(canary: Canary | None) -> int | None:
    return None if canary is None else canary.version
