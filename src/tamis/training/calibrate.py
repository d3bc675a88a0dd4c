"""Logits to honest probabilities, and the probability from which on to decide.

Both are chosen on out-of-fold answers, never on the test part. Knows arrays only.

Source: J. Platt, "Probabilistic outputs for support vector machines", 1999, with his smoothed
targets; for more than two classes one scale and a bias a class (a restricted vector scaling).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from tamis.artifact import OperatingPoint
from tamis.data.split import grouped_parts
from tamis.models.base import Calibration, Logits, softmax
from tamis.training import metrics

Probabilities = npt.NDArray[np.float64]

_MOST_FOLDS = 5


def fit_calibration(logits: Logits, labels: Sequence[str]) -> Calibration:
    """Fit scale and biases to [texts, classes] logits by maximum likelihood; classes are sorted."""
    classes = sorted(set(labels))
    targets = _smoothed_targets(np.searchsorted(classes, labels), len(classes))

    def loss_and_gradient(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        probabilities = softmax(parameters[0] * logits + parameters[1:])
        errors = (probabilities - targets) / len(targets)
        loss = -(targets * np.log(np.maximum(probabilities, 1e-300))).sum() / len(targets)
        return float(loss), np.concatenate([[(errors * logits).sum()], errors.sum(axis=0)])

    start = np.concatenate([[1.0], np.zeros(len(classes))])
    bounds = [(1e-6, 1e6), *[(-50.0, 50.0)] * len(classes)]
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(found[0]), tuple((found[1:] - found[1:].mean()).tolist()))


@dataclass(frozen=True, slots=True)
class ChosenCalibration:
    """A calibration, and whether it was worth it: cross-validated errors without it and with it.

    `kept` is False where it did not lower both errors, or where there were too few texts to tell:
    then `calibration` is the identity, and probabilities are the softmax of the model's own logits.
    """

    calibration: Calibration
    kept: bool
    calibration_error_before: float
    calibration_error_after: float
    log_loss_before: float
    log_loss_after: float

    def described(self) -> dict[str, Any]:
        """Return what the manifest says about it."""
        return {
            "scale": self.calibration.scale,
            "bias": list(self.calibration.bias),
            "kept": self.kept,
            "calibration_error": [self.calibration_error_before, self.calibration_error_after],
            "log_loss": [self.log_loss_before, self.log_loss_after],
        }


def choose_calibration(
    logits: Logits, labels: Sequence[str], groups: Sequence[str], *, seed: int
) -> ChosenCalibration:
    """Fit a calibration and roll it back where it does not help on texts that it was not fitted on."""
    tried = _TriedCalibration.on(logits, labels, groups, seed)
    identity = Calibration(1.0, (0.0,) * logits.shape[1])
    calibration = fit_calibration(logits, labels) if tried.helps else identity
    (error_before, loss_before), (error_after, loss_after) = tried.before, tried.after
    return ChosenCalibration(calibration, tried.helps, error_before, error_after, loss_before, loss_after)


def served_probabilities(
    logits: Logits, labels: Sequence[str], groups: Sequence[str], *, seed: int
) -> Probabilities:
    """Return the probabilities that such logits would be served as, none fitted on its own group.

    Calibrated where `choose_calibration` would calibrate. Every class is among the labels.
    """
    tried = _TriedCalibration.on(logits, labels, groups, seed)
    return tried.fitted if tried.helps else tried.plain


@dataclass(frozen=True)
class _TriedCalibration:
    """Probabilities without calibration and with it, cross-fitted, and the errors of both."""

    plain: Probabilities
    fitted: Probabilities
    before: tuple[float, float]
    after: tuple[float, float]

    @classmethod
    def on(cls, logits: Logits, labels: Sequence[str], groups: Sequence[str], seed: int) -> _TriedCalibration:
        plain = softmax(logits)
        fitted = _cross_fitted(logits, labels, groups, seed)
        if fitted is None:
            fitted = plain
        return cls(plain, fitted, _errors(plain, labels), _errors(fitted, labels))

    @property
    def helps(self) -> bool:
        """Whether it lowers both errors."""
        return self.after[0] < self.before[0] and self.after[1] < self.before[1]


def _cross_fitted(
    logits: Logits, labels: Sequence[str], groups: Sequence[str], seed: int
) -> Probabilities | None:
    """Return probabilities by calibrations fitted on other groups; None where there are too few."""
    folds = min(_MOST_FOLDS, len(set(groups)))
    if folds < 2:
        return None
    part_of = grouped_parts(groups, labels, [1 / folds] * folds, seed)
    probabilities, names = np.zeros_like(logits), np.asarray(labels)
    for part in range(folds):
        inside, others = part_of == part, part_of != part
        if np.unique(names[others]).size < logits.shape[1]:
            return None
        probabilities[inside] = fit_calibration(logits[others], names[others].tolist())(logits[inside])
    return probabilities


def _errors(probabilities: Probabilities, labels: Sequence[str]) -> tuple[float, float]:
    """Return calibration error and log loss."""
    true = np.searchsorted(sorted(set(labels)), labels)
    ones = np.ones((1, len(labels)))
    correct, top = probabilities.argmax(axis=1) == true, probabilities.max(axis=1)
    error = metrics.calibration_error(ones, correct, top)[0]
    return float(error), float(metrics.log_loss(ones, probabilities[np.arange(true.size), true])[0])


def default_positive(labels: Sequence[str]) -> str:
    """Return the rarer of two labels, of equally rare ones the last: what a filter is there to find."""
    counts = Counter(labels)
    return max(counts, key=lambda label: (-counts[label], label))


def choose_operating_point(
    probabilities: Probabilities,
    labels: Sequence[str],
    *,
    positive: str,
    max_false_positive_rate: float,
    chosen_on: str = "out-of-fold answers of the training part",
) -> OperatingPoint:
    """Return the point of most recall among those whose false-positive rate stays under the cap.

    `probabilities` are [texts, 2] of texts that the model had not seen: `chosen_on` says which. The
    threshold lies half-way between the scores on either side of it; where no score is high enough
    it lies just above the highest.
    """
    classes = sorted(set(labels))
    scores = probabilities[:, classes.index(positive)]
    is_positive = np.asarray(labels) == positive
    negatives = np.sort(scores[~is_positive])[::-1]
    highest_refused = negatives[int(max_false_positive_rate * negatives.size)]
    above = scores[scores > highest_refused]
    just_above = np.nextafter(highest_refused, 2)
    threshold = float(max((highest_refused + above.min()) / 2, just_above) if above.size else just_above)
    return OperatingPoint(
        positive=positive,
        threshold=threshold,
        max_false_positive_rate=max_false_positive_rate,
        expected_recall=float((scores[is_positive] >= threshold).mean()),
        expected_false_positive_rate=float((negatives >= threshold).mean()),
        chosen_on=chosen_on,
    )


def _smoothed_targets(indices: npt.NDArray[np.intp], n_classes: int) -> Probabilities:
    """Return Platt's targets: a little less than 1 for the label, so that separable data stay finite."""
    counts = np.bincount(indices, minlength=n_classes)
    certain = (counts + 1) / (counts + n_classes)
    targets = np.repeat(((1 - certain) / (n_classes - 1))[indices][:, None], n_classes, axis=1)
    targets[np.arange(indices.size), indices] = certain[indices]
    return targets
