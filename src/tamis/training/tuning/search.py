"""Searches for hyper-parameters by cross-validation on the training part; see the package for the order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tamis.errors import TrainingError
from tamis.training.choice import CandidateScores, difference, is_better
from tamis.training.fit import TrainSettings, alternative_overrides, learning_part
from tamis.training.tuning.evaluation import CandidateEvaluator
from tamis.training.tuning.search_space import Candidate, CandidateSampler, other_kinds
from tamis.training.tuning.trials import Autotune, SearchResult, SearchState, StopReason, Trial
from tamis.types import Dataset


class _OutOfTimeError(Exception):
    """The time is over: raised within a trial, which is then discarded."""


def kinds_to_try(settings: TrainSettings, limits: Autotune) -> tuple[str, ...]:
    """Return the kinds that a search would try, the one of `settings` first."""
    if not limits.other_kinds:  # the user named the kind
        return (settings.model,)
    others = other_kinds(settings.model, settings.overrides, seconds=limits.seconds, seed=settings.seed)
    return (settings.model, *others)


def search(data: Dataset, settings: TrainSettings, limits: Autotune) -> SearchResult:
    """Try settings on the training part `data` until a limit is reached; `settings.overrides` stay.

    The first trial is the defaults. Ctrl-C ends the search once a trial is complete, and is passed on
    before. Raises TrainingError if nothing can be tried, or nothing is small enough.
    """
    if limits.seconds is None and limits.trials is None:
        raise TrainingError("a search needs a limit: pass a number of seconds or of trials")
    found = _CandidateSearch(data, settings, limits).run()
    if found.best is None and limits.max_bytes is not None:
        raise TrainingError(_nothing_small_enough(found.trials, limits.max_bytes))
    return found


def chosen(settings: TrainSettings, found: SearchResult) -> TrainSettings:
    """Return the settings with those of the best trial; unchanged if there is none."""
    if found.best is None:
        return settings
    candidate = found.best.candidate
    return replace(settings, model=candidate.kind, overrides=candidate.overrides)


class _CandidateSearch:
    """The trials so far, and what the next ones depend on."""

    def __init__(self, data: Dataset, settings: TrainSettings, limits: Autotune):
        self._data, self._settings = data, settings
        self._limits = limits
        self._kinds = kinds_to_try(settings, limits)
        self._started = limits.clock.monotonic()  # encoding the texts counts as well
        self._evaluator = CandidateEvaluator(
            learning_part(data, settings), settings, self._kinds, limits.max_bytes, self._note_fold
        )
        self._trials: list[Trial] = []
        self._best: tuple[Trial, CandidateScores] | None = None
        self._first: CandidateScores | None = None

    def run(self) -> SearchResult:
        """Try one candidate after the other, until a limit is reached or Ctrl-C is pressed."""
        ended: StopReason = "space"  # unless something else ends it, all candidates have been tried
        try:
            for number, candidate in enumerate(self._candidates(), 1):
                self._keep(*self._try(number, candidate))
                if number == self._limits.trials:
                    ended = "trials"
                    break
        except _OutOfTimeError:
            ended = "time"
        except KeyboardInterrupt:
            if self._best is None:
                raise
            ended = "stopped"
        last = self._state(ended=ended, gain=self._gain())
        self._limits.watch(last)
        return SearchResult(last.trials, last.best, self._kinds, self._limits.max_bytes, last.gain, ended)

    def _candidates(self) -> Iterator[Candidate]:
        """Yield the defaults of each kind, the alternative that `fit` tries, and neighbours of the best.

        While nothing is small enough, they are neighbours of the smallest.
        """
        draws = CandidateSampler(self._settings.overrides, seed=self._settings.seed)
        yield from map(draws.defaults, self._kinds)
        # here and not in `fit`, which would choose once more, outside of the search's limit of size
        alternative = alternative_overrides(self._settings, self._data.texts, self._data.labels)
        if alternative:
            yield draws.defaults(self._settings.model, alternative)
        while True:
            # asked anew each time: the caller has tried the last candidate by then
            smallest = min(self._trials, key=lambda trial: trial.size_bytes or float("inf"))
            candidate = draws.neighbour((self._best[0] if self._best else smallest).candidate)
            if candidate is None:
                return
            yield candidate

    def _try(self, number: int, candidate: Candidate) -> tuple[Trial, CandidateScores | None]:
        """Try a candidate; only defaults that cannot be learned are an error of the whole search."""
        started = self._limits.clock.monotonic()
        best = self._best[1] if self._best else None
        trial, scores = Trial(number, candidate, "complete"), None
        try:
            trial, scores = self._evaluator.evaluate(trial, best)
        except TrainingError as failed:
            if number == 1:  # the data cannot be learned at all
                raise
            trial = replace(trial, outcome="failed", why=str(failed))
        return replace(trial, seconds=self._limits.clock.monotonic() - started), scores

    def _keep(self, trial: Trial, scores: CandidateScores | None) -> None:
        self._trials.append(trial)
        if trial.outcome == "complete" and scores is not None:
            if trial.number == 1:  # the gain of a search is that over the defaults
                self._first = scores
            if self._best is None or is_better(scores, self._best[1]):
                self._best = trial, scores
        self._limits.watch(self._state())

    def _gain(self) -> tuple[float, float] | None:
        if self._first is None or self._best is None or self._best[0].number == 1:
            return None
        return difference(self._first, self._best[1], self._evaluator.folds)

    def _note_fold(self, candidate: Candidate, fold: int) -> None:
        """Report the fold of a trial; end the trial if the time is over."""
        left = self._seconds_left()
        # asked here, because a fold may take minutes: between trials alone the budget would be overrun
        if left is not None and left <= 0:
            raise _OutOfTimeError
        self._limits.watch(self._state(running=candidate, fold=fold))

    def _seconds_left(self) -> float | None:
        if self._limits.seconds is None:
            return None
        return self._limits.seconds - (self._limits.clock.monotonic() - self._started)

    def _state(
        self,
        *,
        running: Candidate | None = None,
        fold: int = 0,
        ended: StopReason | None = None,
        gain: tuple[float, float] | None = None,
    ) -> SearchState:
        best = self._best[0] if self._best else None
        left = self._seconds_left()
        # a copy of the trials: a watcher may keep a state while the search goes on
        return SearchState((*self._trials,), best, running, fold, self._evaluator.folds, left, ended, gain)


def _nothing_small_enough(trials: tuple[Trial, ...], max_bytes: int) -> str:
    sizes = [trial.size_bytes for trial in trials if trial.size_bytes is not None]
    if not sizes:
        return "no trial was complete within the budget, so no size is known: search longer"
    return (
        f"no model of at most {max_bytes:,} bytes was found in {len(trials)} trials; the smallest had "
        f"{min(sizes):,}: allow as much, or search longer"
    )
