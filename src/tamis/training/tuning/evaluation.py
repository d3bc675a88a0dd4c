"""Evaluates one candidate: its size, then fold after fold until it is complete or clearly worse.

The folds, the fits and the calibration are those of `tamis train`. Knows nothing of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.training.calibration import Probabilities, served_probabilities
from tamis.training.fit import TrainSettings, is_slow, untrained
from tamis.training.metrics import Floats
from tamis.training.out_of_fold import HeldOutFold, LearningPart, held_out_in_turn
from tamis.training.trainers.base import Calibration, Trainer
from tamis.training.tuning.search_space import Candidate
from tamis.training.tuning.trials import Trial

_SMALLEST = 1e-15

_STANDARD_ERRORS = 2.0
"""By how many the losses of two candidates must differ, text by text, to count as different."""


class CandidateScores:
    """One candidate's out-of-fold predictions, fold by fold.

    Metrics of the first folds use the predictions for these alone, calibration included, so that two
    candidates are compared on the same folds by the same rule.
    """

    def __init__(self, part: LearningPart, *, seed: int):
        self._part = part
        self._seed = seed
        self._classes = sorted(set(part.labels))
        self._true = np.searchsorted(self._classes, part.labels)
        self._held_out_classes = {*self._true[part.fold_of(seed) >= 0].tolist()}
        self._logits = np.zeros((len(part.labels), len(self._classes)))
        self._fold_of = np.full(len(part.labels), -1)
        self._probabilities: dict[int, Probabilities] = {}
        self.folds = 0

    def add(self, held: HeldOutFold) -> None:
        """Add the predictions for one more fold."""
        self._logits[held.rows] = held.logits
        self._fold_of[held.rows] = self.folds
        self.folds += 1

    def has_all_classes(self, folds: int) -> bool:
        """Return whether every label that is held out at all is in the first `folds`."""
        return self._held_out_classes <= {*self._true[self._rows(folds)].tolist()}

    def losses(self, folds: int) -> Floats:
        """Return [texts] the negative logarithm of the probability of each text's label."""
        rows, probabilities = self._rows(folds), self._served(folds)
        own = probabilities[np.arange(rows.size), self._true[rows]]
        losses: Floats = -np.log(np.maximum(own, _SMALLEST))
        return losses

    def accuracy(self) -> float:
        """Return the share of texts whose label has the highest probability."""
        rows = self._rows(self.folds)
        return float((self._served(self.folds).argmax(axis=1) == self._true[rows]).mean())

    def spread(self) -> float | None:
        """Return the standard deviation of the loss over the folds; None with a single one."""
        if self.folds < 2:
            return None
        losses, fold_of = self.losses(self.folds), self._fold_of[self._rows(self.folds)]
        return float(np.std([losses[fold_of == fold].mean() for fold in range(self.folds)], ddof=1))

    def _rows(self, folds: int) -> npt.NDArray[np.intp]:
        return np.flatnonzero((self._fold_of >= 0) & (self._fold_of < folds))

    def _served(self, folds: int) -> Probabilities:
        if folds not in self._probabilities:
            rows = self._rows(folds)
            labels = [self._part.labels[row] for row in rows]
            groups = [self._part.groups[row] for row in rows]
            served = served_probabilities(self._logits[rows], labels, groups, self._classes, seed=self._seed)
            self._probabilities[folds] = served
        return self._probabilities[folds]


def difference(one: CandidateScores, other: CandidateScores, folds: int) -> tuple[float, float]:
    """Return by how much `one` has the larger mean loss, and the standard error, text by text."""
    differences = one.losses(folds) - other.losses(folds)
    return float(differences.mean()), float(differences.std() / np.sqrt(differences.size))


def is_clearly_worse(candidate: CandidateScores, best: CandidateScores) -> bool:
    """Return whether the candidate's loss is higher on its folds by more than two standard errors."""
    folds = candidate.folds
    if not candidate.has_all_classes(folds):
        return False
    behind, error = difference(candidate, best, folds)
    return behind > _STANDARD_ERRORS * error


def is_better(candidate: CandidateScores, best: CandidateScores) -> bool:
    """Return whether the candidate's loss is lower by more than two standard errors.

    Of dozens of candidates that are equally good, one has the lowest loss by luck alone.
    """
    behind, error = difference(candidate, best, best.folds)
    return behind < -_STANDARD_ERRORS * error


OnFold = Callable[[Candidate, int], None]
"""Called within a trial as `on_fold(candidate, fold)`, fold 0 while its size is measured; may raise."""


class CandidateEvaluator:
    """Evaluates candidates on the same folds.

    folds: how many a complete trial has gone through. If every kind is slow it is the one that
        `learn` calibrates such models on; beside quick kinds slow ones go through the same as these.
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
        folds = np.unique(part.fold_of(settings.seed)).tolist()
        n_folds = sum(fold >= 0 for fold in folds)
        if not n_folds:
            raise TrainingError("too few distinct texts to compare settings; train without --autotune")
        self.folds = 1 if only_slow else n_folds

    def evaluate(self, trial: Trial, best: CandidateScores | None) -> tuple[Trial, CandidateScores]:
        """Return `trial` with its metrics, and its scores; it is given up if clearly worse than `best`."""
        scores = CandidateScores(self._part, seed=self._settings.seed)
        if self._max_bytes is not None:
            trial = self._with_size(trial)
            if trial.size_bytes is not None and trial.size_bytes > self._max_bytes:
                return replace(trial, outcome="too large"), scores
        for held in islice(self._held_out(trial.candidate, scores), self.folds):
            if held.interrupted is not None:
                raise KeyboardInterrupt
            scores.add(held)
            if scores.folds < self.folds and best is not None and is_clearly_worse(scores, best):
                return _measured(replace(trial, outcome="given up"), scores), scores
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
