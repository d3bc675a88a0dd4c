"""The figures of a classifier, computed for many weightings of the rows at once.

Every function takes `weights` [resamples, rows] and returns an array with a first axis of
resamples: ones give the figure itself, bootstrap counts its spread. Knows arrays only; scikit-learn
agrees (tests/training/test_metrics.py).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_NORMAL_975 = NormalDist().inv_cdf(0.975)


def confusion(weights: Floats, true: Indices, predicted: Indices, n_classes: int) -> Floats:
    """Return [resamples, classes, classes]: how much weight of each true class got each prediction."""
    cells = true * n_classes + predicted
    flat = [np.bincount(cells, row, minlength=n_classes**2) for row in weights]
    return np.reshape(flat, (len(weights), n_classes, n_classes))


def accuracy(matrix: Floats) -> Floats:
    """Return [resamples] the share on the diagonal of `confusion`."""
    return _ratio(np.trace(matrix, axis1=1, axis2=2), matrix.sum(axis=(1, 2)))


def precision_recall_f1(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Return [resamples, classes] precision, recall and F1, 0 where a class is never predicted or present."""
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    predicted, present = matrix.sum(axis=1), matrix.sum(axis=2)
    return _ratio(hits, predicted), _ratio(hits, present), _ratio(2 * hits, predicted + present)


def matthews(matrix: Floats) -> Floats:
    """Return [resamples] Matthews' correlation coefficient, for any number of classes (Gorodkin, 2004)."""
    total = matrix.sum(axis=(1, 2))
    predicted, present = matrix.sum(axis=1), matrix.sum(axis=2)
    covariance = np.trace(matrix, axis1=1, axis2=2) * total - (predicted * present).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (present**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(spread))


def roc_auc(weights: Floats, positive: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Return [resamples] the area under the ROC curve; a tie counts half."""
    ups, downs = _by_descending_score(weights, positive, scores)
    above = np.cumsum(ups, axis=1) - ups / 2
    return _ratio((downs * above).sum(axis=1), ups.sum(axis=1) * downs.sum(axis=1))


def average_precision(weights: Floats, positive: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Return [resamples] the precision at each new positive, averaged over recall."""
    ups, downs = _by_descending_score(weights, positive, scores)
    precision = _ratio(np.cumsum(ups, axis=1), np.cumsum(ups + downs, axis=1))
    return _ratio((precision * ups).sum(axis=1), ups.sum(axis=1))


def calibration_error(weights: Floats, correct: npt.NDArray[np.bool_], confidence: Floats) -> Floats:
    """Return [resamples] the expected calibration error over 15 equally wide bins of confidence.

    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """
    bins = np.minimum((confidence * 15).astype(np.intp), 14)
    gaps = [np.abs(np.bincount(bins, row * (correct - confidence), minlength=15)).sum() for row in weights]
    return _ratio(np.asarray(gaps), weights.sum(axis=1))


def log_loss(weights: Floats, probability_of_label: Floats) -> Floats:
    """Return [resamples] the mean negative logarithm of the probability given to the true label."""
    return _ratio(-(weights @ np.log(np.maximum(probability_of_label, 1e-15))), weights.sum(axis=1))


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson's score interval); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, spread = successes / trials, _NORMAL_975**2 / trials
    middle = share + spread / 2
    half = _NORMAL_975 * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def bootstrap_weights(n_rows: int, resamples: int, seed: int) -> Floats:
    """Return [resamples, rows] how often each row is drawn when as many rows are drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, n_rows, (resamples, n_rows))
    return np.stack([np.bincount(row, minlength=n_rows) for row in drawn]).astype(np.float64)


def _by_descending_score(
    weights: Floats, positive: npt.NDArray[np.bool_], scores: Floats
) -> tuple[Floats, Floats]:
    """Return [resamples, distinct scores] weight of positives and of negatives, highest score first."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ups = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    downs = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    return ups, downs


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)
