"""Calibration of logits to probabilities, and the choice of the operating point.

Both are chosen on out-of-fold predictions, never on the test part. Knows arrays only.

Source: J. Platt, "Probabilistic outputs for support vector machines", 1999, with his smoothed
targets; for more than two classes one scale and a bias per class (a restricted vector scaling).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.data.split import assign_folds
from tamis.models.scorer import softmax
from tamis.training import metrics
from tamis.training.trainers.base import Calibration, Logits

Floats = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.float64]

_MAX_FOLDS = 5
_SMALLEST = 1e-15
_MIN_SCALE = 1e-6
_MAX_TEXTS = 50_000  # more tell no more of one scale and a few biases
_MAX_STEPS = 100
_MAX_FULL_HESSIAN = 64
_TOLERANCE = 1e-10
_STANDARD_ERRORS = 2.0
_BIAS_VARIANCE = 0.1  # of the prior; a few dozen texts of a class outweigh it


def fit_calibration(logits: Logits, labels: Sequence[str], classes: Sequence[str]) -> Calibration:
    """Fit one scale and a bias for each class by penalised maximum likelihood.

    logits:  [texts, classes] of texts that the model had not seen, in the order of `classes`
    classes: those without a text among `labels` get the bias 0 and share the scale

    The scale is estimated from all texts together, so all of them together move one text's worth of
    probability (Platt's target, (n + 1) / (n + 2) for n texts), however many classes there are. A bias
    is estimated from its class's texts alone: a normal prior keeps it near 0 while these are few.
    """
    places = {label: place for place, label in enumerate(classes)}
    step = max(1, len(labels) // _MAX_TEXTS)
    true = np.fromiter((places[label] for label in labels[::step]), np.intp)
    likelihood = _Likelihood(logits[::step], true)
    parameters, loss = np.concatenate([[1.0], np.zeros(len(classes))]), np.inf
    for _ in range(_MAX_STEPS):
        gradient, curvature = likelihood.derivatives(parameters)
        direction = np.linalg.solve(curvature, gradient)
        taken, previous = 1.0, loss
        while taken > _SMALLEST:
            candidate = parameters - taken * direction
            candidate[0] = max(candidate[0], _MIN_SCALE)
            loss = likelihood.loss(candidate)
            if loss <= previous:
                break
            taken /= 2
        parameters = candidate
        if previous - loss < _TOLERANCE:
            break
    return Calibration(float(parameters[0]), tuple(parameters[1:].tolist()))


class _Likelihood:
    """The penalised negative log-likelihood of scale and biases, with its derivatives, for Newton's method.

    It is convex, so Newton's steps, halved while they lead uphill, find its minimum. Beyond a few dozen
    classes their Hessian is replaced by a bound of it that is diagonal in the biases.
    """

    def __init__(self, logits: Logits, true: npt.NDArray[np.intp]):
        self._logits, self._true = logits, true
        n_texts, n_classes = logits.shape
        self._rows = np.arange(n_texts)
        certain = (n_texts + 1) / (n_texts + 2)
        self._other = (1 - certain) / max(1, n_classes - 1)
        self._own = certain - self._other
        self._is_measured = np.bincount(true, minlength=n_classes) > 0
        self._last: tuple[bytes, Floats] | None = None

    def loss(self, parameters: Floats) -> float:
        """Return the mean loss per text."""
        log_probabilities = self._log_probabilities(parameters)
        of_label = log_probabilities[self._rows, self._true]
        loss = -(self._own * of_label.sum() + self._other * log_probabilities.sum())
        return float(loss + (parameters[1:] ** 2).sum() / (2 * _BIAS_VARIANCE)) / len(self._rows)

    def derivatives(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return gradient [1 + classes] and Hessian [1 + classes, 1 + classes]; unmeasured biases rest."""
        probabilities = np.exp(self._log_probabilities(parameters))
        errors = probabilities - self._other
        errors[self._rows, self._true] -= self._own
        weighted = probabilities * self._logits
        mean = weighted.sum(axis=1, keepdims=True)
        gradient = np.concatenate([[(errors * self._logits).sum()], errors.sum(axis=0)])
        gradient[1:] += parameters[1:] / _BIAS_VARIANCE
        size = gradient.size
        hessian = np.zeros((size, size))
        hessian[0, 0] = (weighted * (self._logits - mean)).sum() + 1e-9
        hessian[0, 1:] = hessian[1:, 0] = (weighted - probabilities * mean).sum(axis=0)
        if size <= _MAX_FULL_HESSIAN:
            hessian[1:, 1:] = np.diag(probabilities.sum(axis=0)) - probabilities.T @ probabilities
        else:
            hessian[1:, 0] = hessian[0, 1:] = 0.0
            hessian[1:, 1:] = np.diag(probabilities.sum(axis=0))
        hessian[1:, 1:] += np.eye(size - 1) / _BIAS_VARIANCE
        resting = np.flatnonzero(~self._is_measured) + 1
        gradient[resting] = 0.0
        hessian[resting, :] = hessian[:, resting] = 0.0
        hessian[resting, resting] = 1.0
        return gradient / len(self._rows), hessian / len(self._rows)

    def _log_probabilities(self, parameters: Floats) -> Floats:
        key = parameters.tobytes()
        if self._last is None or self._last[0] != key:  # the derivatives are wanted where the loss was
            shifted = parameters[0] * self._logits + parameters[1:]
            shifted -= shifted.max(axis=1, keepdims=True)
            self._last = key, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return self._last[1]


@dataclass(frozen=True, slots=True)
class ChosenCalibration:
    """A calibration, and whether it was worth it: cross-validated errors without it and with it.

    `kept` is False if it did not help, or if there were too few texts to tell: then `calibration` is the
    identity, and probabilities are the softmax of the model's own logits. Errors are None if no text could
    be held out.
    """

    calibration: Calibration
    kept: bool
    calibration_error_before: float | None
    calibration_error_after: float | None
    log_loss_before: float | None
    log_loss_after: float | None

    @classmethod
    def none(cls, n_classes: int) -> ChosenCalibration:
        """Return the identity, for models of which no answer about unseen texts is known."""
        return cls(Calibration(1.0, (0.0,) * n_classes), False, *[None] * 4)

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
    logits: Logits, labels: Sequence[str], groups: Sequence[str], classes: Sequence[str], *, seed: int
) -> ChosenCalibration:
    """Fit a calibration and roll it back if it does not help on texts that it was not fitted on.

    Rows of NaN, of texts that were in every training part, are left out.
    """
    rows = np.flatnonzero(~np.isnan(logits[:, 0])).tolist()
    if not rows:
        return ChosenCalibration.none(len(classes))
    logits, labels, groups = logits[rows], [labels[row] for row in rows], [groups[row] for row in rows]
    tried = _TriedCalibration.on(logits, labels, groups, classes, seed)
    identity = Calibration(1.0, (0.0,) * len(classes))
    calibration = fit_calibration(logits, labels, classes) if tried.helps else identity
    return ChosenCalibration(
        calibration,
        tried.helps,
        tried.before.calibration_error,
        tried.after.calibration_error,
        tried.before.log_loss,
        tried.after.log_loss,
    )


def served_probabilities(
    logits: Logits, labels: Sequence[str], groups: Sequence[str], classes: Sequence[str], *, seed: int
) -> Probabilities:
    """Return the probabilities that such logits would be served as, none fitted on its own group.

    They are calibrated if `choose_calibration` would keep a calibration.
    """
    tried = _TriedCalibration.on(logits, labels, groups, classes, seed)
    return tried.fitted if tried.helps else tried.plain


@dataclass(frozen=True)
class _TriedCalibration:
    """Probabilities without calibration and with it, cross-fitted, and the errors of both."""

    plain: Probabilities
    fitted: Probabilities
    before: _Errors
    after: _Errors

    @classmethod
    def on(
        cls, logits: Logits, labels: Sequence[str], groups: Sequence[str], classes: Sequence[str], seed: int
    ) -> _TriedCalibration:
        plain = softmax(logits)
        fitted = _cross_fitted(logits, labels, groups, classes, seed)
        if fitted is None:
            fitted = plain
        return cls(plain, fitted, _Errors.of(plain, labels, classes), _Errors.of(fitted, labels, classes))

    @property
    def helps(self) -> bool:
        """Whether log loss falls, and calibration error too unless log loss falls by more than chance."""
        # Log loss is a proper score: two standard errors of it prove better probabilities. Calibration error
        # is not: a model that gives every text the shares of the labels has none, and any other one has more.
        gain = self.before.losses - self.after.losses
        if gain.mean() <= 0:
            return False
        standard_error = gain.std() / np.sqrt(gain.size)
        is_clear = bool(gain.mean() > _STANDARD_ERRORS * standard_error)
        return is_clear or self.after.calibration_error < self.before.calibration_error


@dataclass(frozen=True)
class _Errors:
    """Calibration error, and [texts] the log loss of each."""

    calibration_error: float
    losses: Floats

    @classmethod
    def of(cls, probabilities: Probabilities, labels: Sequence[str], classes: Sequence[str]) -> _Errors:
        places = {label: place for place, label in enumerate(classes)}
        true = np.fromiter((places[label] for label in labels), np.intp, len(labels))
        correct, top = probabilities.argmax(axis=1) == true, probabilities.max(axis=1)
        error = metrics.calibration_error(np.ones((1, true.size)), correct, top)[0]
        of_label = probabilities[np.arange(true.size), true]
        return cls(float(error), -np.log(np.maximum(of_label, _SMALLEST)))

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())


def _cross_fitted(
    logits: Logits, labels: Sequence[str], groups: Sequence[str], classes: Sequence[str], seed: int
) -> Probabilities | None:
    """Return probabilities by calibrations fitted on other groups; None if there is a single group."""
    folds = min(_MAX_FOLDS, len(set(groups)))
    if folds < 2:
        return None
    fold_of = assign_folds(groups, labels, folds, seed)
    probabilities, names = np.zeros_like(logits), np.asarray(labels, object)
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        others = ~inside if fold >= 0 else np.ones(fold_of.size, np.bool_)
        calibration = fit_calibration(logits[others], names[others].tolist(), classes)
        probabilities[inside] = calibration(logits[inside])
    return probabilities


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
