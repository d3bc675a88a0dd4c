"""The metrics of a classifier, computed for many weightings of the rows at once.

Functions take `weights` [resamples, rows] and return an array with a first axis of resamples: ones give
the metric itself, bootstrap counts its spread. Handles arrays only; scikit-learn, which the tests compare
with, has one weighting at a time and is no dependency of `tamis evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.proportions import wilson

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_MIN_STRATUM = 5
"""Clusters of a label from which on it is resampled by itself; see `Resampler`."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval: Wilson's for proportions and F1, resampling's for the others."""

    value: float
    low: float
    high: float


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> Indices:
    """Return [rows] the index of each label among `classes`; raises KeyError for any other label."""
    index_of = {label: index for index, label in enumerate(classes)}
    return np.fromiter((index_of[label] for label in labels), np.intp, len(labels))


def confusion(weights: Floats, true: Indices, predicted: Indices, n_classes: int) -> Floats:
    """Return [resamples, classes, classes]: how much weight of each true class got each prediction."""
    cells = true * n_classes + predicted
    flat = [np.bincount(cells, row, minlength=n_classes**2) for row in weights]
    return np.reshape(flat, (len(weights), n_classes, n_classes))


@dataclass(frozen=True)
class Margins:
    """Of a confusion matrix what most metrics need, [resamples, classes]: memory for 500 labels as for 2.

    hits:      weight of the rows of each class that are predicted as that class
    predicted: weight of the rows that are predicted as it
    present:   weight of its rows
    """

    hits: Floats
    predicted: Floats
    present: Floats

    @classmethod
    def of_rows(cls, weights: Floats, true: Indices, predicted: Indices, n_classes: int) -> Margins:
        """Sum up `weights` [resamples, rows]."""
        right = true == predicted
        return cls(
            _sums(weights[:, right], true[right], n_classes),
            _sums(weights, predicted, n_classes),
            _sums(weights, true, n_classes),
        )

    def f1(self) -> Floats:
        """Return [resamples, classes], NaN for a class that has no rows and is never predicted."""
        return _ratio(2 * self.hits, self.predicted + self.present)

    def macro_f1(self) -> Floats:
        """Return [resamples] the mean F1 over the classes that have rows."""
        return _ratio(np.where(self.present > 0, self.f1(), 0).sum(axis=1), (self.present > 0).sum(axis=1))

    def matthews(self) -> Floats:
        """Return [resamples] Matthews' correlation coefficient, for any number of classes (Gorodkin, 2004).

        It is 0 if all rows are predicted as one class, and NaN if all rows have one class.
        """
        total = self.present.sum(axis=1)
        covariance = self.hits.sum(axis=1) * total - (self.predicted * self.present).sum(axis=1)
        spread_predicted = total**2 - (self.predicted**2).sum(axis=1)
        spread_true = total**2 - (self.present**2).sum(axis=1)
        found = np.where(spread_predicted > 0, _ratio(covariance, np.sqrt(spread_predicted * spread_true)), 0)
        return np.where(spread_true > 0, found, np.nan)


@dataclass(frozen=True)
class Ranking:
    """The rows of one label ranked against all others, the highest score first.

    ups, downs: [resamples, distinct scores] weight of the label's rows, and of the others
    """

    ups: Floats
    downs: Floats

    @classmethod
    def of_rows(cls, weights: Floats, positive: npt.NDArray[np.bool_], scores: Floats) -> Ranking:
        """Rank rows by `scores`; those of equal scores are added up."""
        order = np.argsort(-scores, kind="stable")
        # rows of equal scores are one step of the curve: their order must not change an area
        starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
        ordered, is_up = weights[:, order], positive[order]
        ups = np.add.reduceat(ordered * is_up, starts, axis=1)
        return cls(ups, np.add.reduceat(ordered * ~is_up, starts, axis=1))

    def roc_auc(self) -> Floats:
        """Return [resamples] the area under the ROC curve; a tie counts half. NaN if one side is empty."""
        above = np.cumsum(self.ups, axis=1) - self.ups / 2
        return _ratio((self.downs * above).sum(axis=1), self.ups.sum(axis=1) * self.downs.sum(axis=1))

    def average_precision(self) -> Floats:
        """Return [resamples] the precision at each new positive, averaged over recall; NaN without any."""
        found, all_rows = np.cumsum(self.ups, axis=1), np.cumsum(self.ups + self.downs, axis=1)
        precision = np.nan_to_num(_ratio(found, all_rows))  # the first rows may not be in a resample
        return _ratio((precision * self.ups).sum(axis=1), self.ups.sum(axis=1))


def calibration_error(weights: Floats, correct: npt.NDArray[np.bool_], confidence: Floats) -> Floats:
    """Return [resamples] the expected calibration error over 15 equally wide bins of confidence.

    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """
    bins = np.minimum((confidence * 15).astype(np.intp), 14)  # a confidence of 1 is in the last bin
    gaps = [np.abs(np.bincount(bins, row * (correct - confidence), minlength=15)).sum() for row in weights]
    return _ratio(np.asarray(gaps), weights.sum(axis=1))


def log_loss(weights: Floats, probability_of_label: Floats) -> Floats:
    """Return [resamples] the mean negative logarithm of the probability given to the true label."""
    return _ratio(-(weights @ np.log(np.maximum(probability_of_label, 1e-15))), weights.sum(axis=1))


def proportion(successes: float, trials: float) -> Estimate | None:
    """Return a share with its Wilson interval; None without trials."""
    if not trials:
        return None
    low, high = wilson(float(successes), float(trials))
    value = float(successes / trials)
    # at 0 and 1 rounding may put a bound on the wrong side of the value
    return Estimate(value, min(low, value), max(high, value))


def f1_of_counts(hits: float, predicted: float, present: float) -> Estimate | None:
    """Return F1 = 2J / (1 + J) with the Wilson interval of the proportion J; None if nothing is counted.

    J is the share of hits among the texts that have the label, are predicted as it, or both. Resampling would
    find no spread at all where a label of three rows is always right, or never.
    """
    share = proportion(hits, predicted + present - hits)
    # F1 rises with J, so the bounds of J give those of F1
    return share and Estimate(*(2 * value / (1 + value) for value in (share.value, share.low, share.high)))


def proportion_of_some(successes: float, trials: float) -> Estimate:
    """Return a share of at least one trial with its Wilson interval."""
    return defined(proportion(successes, trials))


def defined(estimate: Estimate | None) -> Estimate:
    """Return a metric that every non-empty set of rows has."""
    assert estimate is not None, "there is at least one row"
    return estimate


class Resampler:
    """Draws rows with replacement, label by label and cluster by cluster.

    Every resample has as many clusters of each label as the rows have. Labels of fewer than five clusters
    are drawn together: alone they would hardly vary. A cluster counts for the label of its first row;
    without clusters each row is its own.
    """

    def __init__(self, labels: Indices, groups: Indices | None = None):
        numbers = groups if groups is not None else np.arange(labels.size)
        _, first, self._group_of = np.unique(numbers, return_index=True, return_inverse=True)
        stratum = labels[first] + 1  # 0 is the stratum of all labels with few clusters
        stratum[(np.bincount(stratum) < _MIN_STRATUM)[stratum]] = 0
        self._group_at = np.argsort(stratum, kind="stable")  # [positions] groups, those of a stratum in a row
        sizes = np.bincount(stratum)
        self._size = np.repeat(sizes, sizes)
        self._start = np.repeat(np.cumsum(sizes) - sizes, sizes)

    def weights(self, resamples: int, seed: int) -> Floats:
        """Return [resamples, rows] how often each row is drawn."""
        n = self._group_at.size
        # each draw stays within its stratum: its first position, plus a random part of its size
        drawn = self._start + np.random.default_rng(seed).random((resamples, n)) * self._size
        # one bincount for all resamples, each of which has n cells of its own
        flat = drawn.astype(np.intp) + np.arange(resamples)[:, None] * n
        counts = np.bincount(flat.ravel(), minlength=resamples * n).reshape(resamples, n)
        of_group = np.empty((resamples, n), np.float64)
        of_group[:, self._group_at] = counts
        weights: Floats = of_group[:, self._group_of]
        return weights

    def without_each_block(self, blocks: int, seed: int) -> Floats:
        """Return [blocks, rows] of 0 and 1: clusters are divided into blocks, each is left out once."""
        n = self._group_at.size
        # shuffled within each stratum, then assigned in turn: every block has its share of each label
        shuffled = np.lexsort([np.random.default_rng(seed).random(n), self._start])
        block = np.empty(n, np.intp)
        block[self._group_at[shuffled]] = np.arange(n) % blocks
        kept: Floats = (block[self._group_of] != np.arange(blocks)[:, None]).astype(np.float64)
        return kept


def _sums(weights: Floats, classes: Indices, n_classes: int) -> Floats:
    sums = [np.bincount(classes, row, minlength=n_classes) for row in weights]
    return np.reshape(sums, (len(weights), n_classes)).astype(np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan, dtype=np.float64), where=below > 0)
