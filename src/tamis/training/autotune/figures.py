"""What a candidate's answers about held-out folds are worth, alone and beside another's.

Knows answers and labels; does not know settings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tamis.training.calibration import Probabilities, served_probabilities
from tamis.training.metrics import Floats
from tamis.training.out_of_fold import HeldOutFold, LearningPart

_SMALLEST = 1e-15

_STANDARD_ERRORS = 2.0
"""By how many the losses of two candidates must differ, text by text, to count as different."""


class Answers:
    """What one candidate says about the folds that it was tried on, in their order.

    Figures over the first folds use the answers about these alone, calibration included: two
    candidates are compared by the same rule whatever else is known of one of them.
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
        """Take the answers about one more fold."""
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


def difference(one: Answers, other: Answers, folds: int) -> tuple[float, float]:
    """Return by how much `one` has the larger mean loss, and the standard error, text by text."""
    differences = one.losses(folds) - other.losses(folds)
    return float(differences.mean()), float(differences.std() / np.sqrt(differences.size))


def is_hopeless(candidate: Answers, best: Answers) -> bool:
    """Return whether the candidate's loss is higher on its folds by more than two standard errors."""
    folds = candidate.folds
    if not candidate.has_all_classes(folds):
        return False
    behind, error = difference(candidate, best, folds)
    return behind > _STANDARD_ERRORS * error


def is_better(candidate: Answers, best: Answers) -> bool:
    """Return whether the candidate's loss is lower by more than two standard errors.

    Of dozens of candidates that are equally good, one has the lowest loss by luck alone.
    """
    behind, error = difference(candidate, best, best.folds)
    return behind < -_STANDARD_ERRORS * error
