"""Evaluates one candidate: its size, then fold after fold until it is complete or clearly worse.

The folds, the fits and the calibration are those of `tamis train`. Independent of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tamis.errors import TrainingError
from tamis.training.choice import CandidateScores, is_clearly_worse
from tamis.training.fit import TrainSettings, is_slow, untrained
from tamis.training.out_of_fold import HeldOutFold, LearningPart, held_out_in_turn
from tamis.training.trainers.base import Calibration, Trainer
from tamis.training.tuning.search_space import Candidate
from tamis.training.tuning.trials import Trial

OnFold = Callable[[Candidate, int], None]
"""Called within a trial as `on_fold(candidate, fold)`, fold 0 while its size is measured; may raise."""


class CandidateEvaluator:
    """Evaluates candidates on the same folds.

    folds: the number of folds of a complete trial. If every kind is slow it is 1, the fold that `fit`
        calibrates such models on; beside quick kinds slow ones are evaluated on as many folds as these.
    """

    def __init__(
        self,
        part: LearningPart,
        settings: TrainSettings,
        kinds: Sequence[str],
        max_bytes: int | None,
        on_fold: OnFold,
    ):
        self._part = part
        self._settings = settings
        self._max_bytes = max_bytes
        self._on_fold = on_fold
        only_slow = all(is_slow(replace(settings, model=kind)) for kind in kinds)
        # fewer folds than asked for if there are few groups, and none if no row can be held out
        folds = np.unique(part.fold_of(settings.seed)).tolist()
        n_folds = sum(fold >= 0 for fold in folds)
        if not n_folds:
            raise TrainingError("too few distinct texts to compare settings; train without --autotune")
        self.folds = 1 if only_slow else n_folds

    def evaluate(self, trial: Trial, best: CandidateScores | None) -> tuple[Trial, CandidateScores]:
        """Return `trial` with its metrics, and its scores; it is given up if clearly worse than `best`."""
        scores = CandidateScores(self._part, seed=self._settings.seed)
        if self._max_bytes is not None:  # before the folds: one that is too large needs none
            trial = self._with_size(trial)
            if trial.size_bytes is not None and trial.size_bytes > self._max_bytes:
                return replace(trial, outcome="too large"), scores
        # lazily: a trial that is given up fits no further fold
        for held in islice(self._held_out(trial.candidate, scores), self.folds):
            if held.interrupted is not None:  # the trainer kept its best epoch; the search must stop, too
                raise KeyboardInterrupt
            scores.add(held)
            if scores.folds < self.folds and best is not None and is_clearly_worse(scores, best):
                return _measured(replace(trial, outcome="given up"), scores), scores
        # for the report; without a limit it is not worth another fit of a slow kind
        if trial.size_bytes is None and not is_slow(self._of(trial.candidate)):
            trial = self._with_size(trial)
        return _measured(trial, scores), scores

    def _held_out(self, candidate: Candidate, scores: CandidateScores) -> Iterator[HeldOutFold]:
        settings = self._of(candidate)
        return held_out_in_turn(
            lambda: untrained(settings),
            self._part,
            seed=settings.seed,
            progress=lambda done, total: self._on_fold(candidate, scores.folds + 1),
        )

    def _with_size(self, trial: Trial) -> Trial:
        """Fit the whole part and measure the files that would serve the model."""
        self._on_fold(trial.candidate, 0)  # a fit of encoded texts may be too quick to report any progress
        model = untrained(self._of(trial.candidate)).fit(
            self._part.texts,
            self._part.labels,
            progress=lambda done, total: self._on_fold(trial.candidate, 0),
        )
        if model.interrupted_:
            raise KeyboardInterrupt
        return replace(trial, size_bytes=exported_size(model))

    def _of(self, candidate: Candidate) -> TrainSettings:
        return replace(self._settings, model=candidate.kind, overrides=candidate.overrides)


def exported_size(model: Trainer) -> int:
    """Return the bytes of the files that serve `model`."""
    # exported and not computed by a formula, which could deviate from what is saved
    with TemporaryDirectory(prefix="tamis-") as folder:
        model.export(Path(folder), Calibration(1.0, (0.0,) * len(model.classes_)))
        return sum(file.stat().st_size for file in Path(folder).iterdir())


def _measured(trial: Trial, scores: CandidateScores) -> Trial:
    return replace(
        trial,
        folds=scores.folds,
        log_loss=float(scores.losses(scores.folds).mean()),
        spread=scores.spread(),
        accuracy=scores.accuracy(),
    )
