"""The choice of a calibration and of the operating point.

Both are chosen on out-of-fold predictions, never on the test part. Handles arrays only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tamis.artifact import OperatingPoint
from tamis.data.split import assign_folds
from tamis.models.scorer import softmax
from tamis.training import metrics
from tamis.training.calibration_fit import fit_calibration
from tamis.training.trainers.base import Calibration, Logits

Probabilities = metrics.Floats

_MAX_FOLDS = 5
MIN_PROBABILITY = 1e-15  # the log loss of a probability of 0 would be infinite
_STANDARD_ERRORS = 2.0  # as in a search: a smaller gain may be chance


@dataclass(frozen=True, slots=True)
class ChosenCalibration:
    """A calibration, whether it is used, and the cross-validated errors without it and with it.

    `kept` is False if it did not help, or if there were too few texts to decide: then `calibration` is the
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
        """Return the identity, for models without a prediction for any unseen text."""
        identity = Calibration(1.0, (0.0,) * n_classes)
        return cls(identity, False, *[None] * 4)

    def why_not_kept(self) -> str:
        """Return why probabilities are not calibrated, as a line for the terminal."""
        before, after = self.calibration_error_before, self.calibration_error_after
        if before is None or after is None:
            return "probabilities are not calibrated: too few distinct texts to hold any out"
        return (
            "calibration rolled back: it did not help on texts that it was not fitted on "
            f"(calibration error {before:.3f} without it, {after:.3f} with it)"
        )

    def described(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
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
    return ChosenCalibration(
        # not kept: the identity, so that the saved model gives the softmax of its logits
        tried.calibration if tried.helps else Calibration(1.0, (0.0,) * len(classes)),
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
    """Probabilities without calibration and with it, cross-fitted, and the errors of both.

    calibration: fitted on all texts
    """

    calibration: Calibration
    plain: Probabilities
    fitted: Probabilities
    before: _Errors
    after: _Errors

    @classmethod
    def on(
        cls, logits: Logits, labels: Sequence[str], groups: Sequence[str], classes: Sequence[str], seed: int
    ) -> _TriedCalibration:
        plain = softmax(logits)
        calibration = fit_calibration(logits, labels, classes)
        fitted = _cross_fitted(logits, labels, groups, classes, seed, start=calibration)
        if fitted is None:  # nothing to compare: equal errors mean that the calibration is not kept
            fitted = plain
        errors = (_Errors.of(plain, labels, classes), _Errors.of(fitted, labels, classes))
        return cls(calibration, plain, fitted, *errors)

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
    losses: metrics.Floats

    @classmethod
    def of(cls, probabilities: Probabilities, labels: Sequence[str], classes: Sequence[str]) -> _Errors:
        true = metrics.class_indices(labels, classes)
        correct, top = probabilities.argmax(axis=1) == true, probabilities.max(axis=1)
        error = metrics.calibration_error(np.ones((1, true.size)), correct, top)[0]
        of_label = probabilities[np.arange(true.size), true]
        return cls(float(error), -np.log(np.maximum(of_label, MIN_PROBABILITY)))

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())


def _cross_fitted(
    logits: Logits,
    labels: Sequence[str],
    groups: Sequence[str],
    classes: Sequence[str],
    seed: int,
    *,
    start: Calibration,
) -> Probabilities | None:
    """Return probabilities by calibrations fitted on other groups; None if there is a single group."""
    folds = min(_MAX_FOLDS, len(set(groups)))
    if folds < 2:
        return None
    fold_of = assign_folds(groups, labels, folds, seed)
    probabilities, names = np.zeros_like(logits), np.asarray(labels, object)
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        # fold -1: groups that are in every training part; their calibration is fitted on all texts
        others = ~inside if fold >= 0 else np.ones(fold_of.size, np.bool_)
        # the loss is convex: the start decides the time only (41 labels: 0.74 to 0.3 s)
        calibration = fit_calibration(logits[others], names[others].tolist(), classes, start=start)
        probabilities[inside] = calibration(logits[inside])
    return probabilities


def default_positive(labels: Sequence[str]) -> str:
    """Return the rarer of two labels, which a filter is meant to find; of equally rare ones the last."""
    counts = Counter(labels)
    # by name if they are equally rare, so that the order of rows does not decide
    return max(counts, key=lambda label: (-counts[label], label))


def choose_operating_point(
    probabilities: Probabilities,
    labels: Sequence[str],
    *,
    positive: str,
    max_false_positive_rate: float,
    chosen_on: str = "out-of-fold answers of the training part",
) -> OperatingPoint:
    """Return the point of highest recall among those whose false-positive rate is at most the cap.

    `probabilities` are [texts, 2] of texts that the model had not seen, which `chosen_on` names. The
    threshold lies half-way between the scores on either side of it; if no score is high enough, it is just
    above the highest.
    """
    classes = sorted(set(labels))
    scores = probabilities[:, classes.index(positive)]
    is_positive = np.asarray(labels) == positive
    negatives = np.sort(scores[~is_positive])[::-1]
    # so many negatives may be flagged; the next one in order must not be
    highest_refused = negatives[int(max_false_positive_rate * negatives.size)]
    above = scores[scores > highest_refused]
    # half-way to the next score: a threshold right at a score would flag or miss a text by its last digit
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
