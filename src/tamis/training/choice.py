"""Compares settings by out-of-fold predictions, and chooses between a trainer's own and an alternative.

Candidates are compared by log loss, text by text on the same folds, and not by accuracy: two settings differ
in accuracy by a handful of texts, which is noise. The folds and the calibration are those of `tamis train`;
the test part is never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.training.calibration import MIN_PROBABILITY, served_probabilities
from tamis.training.metrics import Floats
from tamis.training.out_of_fold import HeldOutFold, LearningPart, held_out_in_turn
from tamis.training.trainers.base import Logits, Trainer

_STANDARD_ERRORS = 2.0
"""By how many the losses of two candidates must differ, text by text, to count as different."""

_FIRST_FOLD_STANDARD_ERRORS = 1.0
"""By how many an alternative must lead on the first of three or five folds to be tried on the others."""


class CandidateScores:
    """One candidate's out-of-fold predictions, fold by fold.

    Metrics of the first folds use the predictions for these alone, calibration included, so that two
    candidates are compared on the same folds by the same rule.
    """

    def __init__(self, part: LearningPart, *, seed: int):
        self._part = part
        self._seed = seed
        self._classes = sorted(set(part.labels))  # once: `part.classes` sorts anew at each call
        self._true = np.searchsorted(self._classes, part.labels)
        # without those that are never held out, for which no number of folds would have all classes
        self._held_out_classes = {*self._true[part.fold_of(seed) >= 0].tolist()}
        self._logits = np.zeros((len(part.labels), len(self._classes)))
        self._fold_of = np.full(len(part.labels), -1)
        self._probabilities: dict[int, Floats] = {}
        self.folds = 0

    def add(self, held: HeldOutFold) -> None:
        """Add the predictions for one more fold."""
        self._logits[held.rows] = held.logits
        self._fold_of[held.rows] = self.folds
        self.folds += 1

    def has_all_classes(self, folds: int) -> bool:
        """Return whether the first `folds` hold out every label that is held out at all."""
        return self._held_out_classes <= {*self._true[self._rows(folds)].tolist()}

    def losses(self, folds: int) -> Floats:
        """Return [texts] the negative logarithm of the probability of each text's label."""
        rows, probabilities = self._rows(folds), self._served(folds)
        own = probabilities[np.arange(rows.size), self._true[rows]]
        # one certain error would otherwise be an infinite loss, and decide every comparison
        losses: Floats = -np.log(np.maximum(own, MIN_PROBABILITY))
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

    def _served(self, folds: int) -> Floats:
        # kept, because the best candidate is compared again at every fold of every later trial
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
    if not candidate.has_all_classes(folds):  # it may be better at the labels that are still to come
        return False
    excess, error = difference(candidate, best, folds)
    return excess > _STANDARD_ERRORS * error


def is_better(
    candidate: CandidateScores, best: CandidateScores, *, standard_errors: float = _STANDARD_ERRORS
) -> bool:
    """Return whether the candidate's loss is lower by more than so many standard errors.

    Of dozens of candidates that are equally good, one has the lowest loss by chance.
    """
    excess, error = difference(candidate, best, best.folds)
    return excess < -standard_errors * error


@dataclass(frozen=True)
class Choice:
    """An alternative that was clearly better on out-of-fold predictions of the training part.

    part:           the training part, encoded as the alternative needs it
    logits:         [texts, classes] out-of-fold logits
    log_losses:     of the trainer's own settings, and of the alternative
    standard_error: of the difference, text by text
    """

    overrides: Mapping[str, str]
    part: LearningPart
    logits: Logits
    log_losses: tuple[float, float]
    standard_error: float

    def __str__(self) -> str:
        """Return what was chosen and why, as a line for the terminal."""
        chosen = ", ".join(f"{name}={value}" for name, value in self.overrides.items())
        before, after = self.log_losses
        return (
            f"{chosen}, chosen by cross-validation on the training part: log loss {after:.4f}, "
            f"{before:.4f} without (standard error of the difference {self.standard_error:.4f})"
        )

    def described(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
        return {
            "overrides": dict(self.overrides),
            "log_loss": [*self.log_losses],
            "standard_error": self.standard_error,
        }


def choose_alternative(
    make: Callable[[], Trainer],
    part: LearningPart,
    *,
    logits: Logits,
    overrides: Mapping[str, str],
    seed: int,
) -> Choice | None:
    """Return the alternative if its log loss is clearly lower on the folds of `logits`, else None.

    make:      returns an untrained alternative
    part:      encoded for the alternative
    logits:    [texts, classes] out-of-fold, by the trainer's own settings
    overrides: how the alternative differs

    It is given up after the first fold unless it leads there: most alternatives cost one fit.
    """
    own, other = (CandidateScores(part, seed=seed) for _ in range(2))
    chosen = np.full_like(logits, np.nan)  # rows that are never held out stay NaN
    for held in held_out_in_turn(make, part, seed=seed):
        # the trainer's own settings have been fitted on these folds already: only the alternative costs fits
        own.add(replace(held, logits=logits[held.rows]))
        other.add(held)
        chosen[held.rows] = held.logits
        if own.folds == 1 and not is_better(other, own, standard_errors=_FIRST_FOLD_STANDARD_ERRORS):
            return None
    # on all folds by twice as much: below two standard errors accuracy on test parts went either way
    if not own.folds or not is_better(other, own):
        return None
    losses = (float(own.losses(own.folds).mean()), float(other.losses(own.folds).mean()))
    return Choice(overrides, part, chosen, losses, difference(own, other, own.folds)[1])
