"""The points of a report's curves, from probabilities and labels. Knows no drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.training.evaluation import Estimate, proportion_of_some
from tamis.training.metrics import Floats, Indices

Points = list[tuple[float, float]]
Mask = npt.NDArray[np.bool_]

_MOST_POINTS = 300
_BINS = 10
_LENGTHS = (20, 40, 80, 160, 320)
_THRESHOLDS = 101


@dataclass(frozen=True)
class Bin:
    """Rows that share a range: of probability, or of length; `middle` is their mean there."""

    name: str
    rows: int
    middle: float
    share: Estimate


def roc(scores: Floats, positive: Mask) -> Points:
    """Return (false-positive rate, recall) as the threshold falls, corners only."""
    hits, alarms = _cumulated(scores, positive)
    right, up = np.diff(alarms), np.diff(hits)
    corners = np.flatnonzero(right[:-1] * up[1:] != right[1:] * up[:-1]) + 1
    kept = _thinned(np.unique(np.concatenate([[0], corners, [hits.size - 1]])))
    x = alarms[kept] / max(1, int((~positive).sum()))
    y = hits[kept] / max(1, int(positive.sum()))
    return _points(x, y)


def precision_recall(scores: Floats, positive: Mask) -> Points:
    """Return (recall, precision) as the threshold falls."""
    hits, alarms = _cumulated(scores, positive)
    flagged = hits + alarms
    recall = hits / max(1, int(positive.sum()))
    precision = np.divide(hits, flagged, out=np.ones(hits.size), where=flagged > 0)
    kept = _thinned(np.flatnonzero(np.diff(recall, prepend=-1.0) > 0))
    return _points(recall[kept], precision[kept])


def thresholds(scores: Floats, positive: Mask) -> dict[str, Points]:
    """Return recall, precision and false-positive rate against the threshold."""
    grid = np.linspace(0, 1, _THRESHOLDS)
    flagged = scores[None, :] >= grid[:, None]
    hits, alarms = (flagged & positive).sum(axis=1), (flagged & ~positive).sum(axis=1)
    some = hits + alarms > 0
    precision = hits[some] / (hits + alarms)[some]
    return {
        "recall": _points(grid, hits / max(1, int(positive.sum()))),
        "precision": _points(grid[some], precision),
        "false-positive rate": _points(grid, alarms / max(1, int((~positive).sum()))),
    }


def reliability(predicted: Floats, happened: Mask) -> list[Bin]:
    """Return how often it happened where it was predicted with about that probability."""
    bins = np.minimum((predicted * _BINS).astype(np.intp), _BINS - 1)
    return [
        Bin(
            f"{number / _BINS:.1f}–{(number + 1) / _BINS:.1f}",
            int(inside.sum()),
            float(predicted[inside].mean()),
            proportion_of_some(happened[inside].sum(), inside.sum()),
        )
        for number in range(_BINS)
        for inside in [bins == number]
        if inside.any()
    ]


def by_length(lengths: Indices, correct: Mask) -> list[Bin]:
    """Return accuracy for texts of about the same length."""
    return [
        Bin(
            name,
            int(inside.sum()),
            float(lengths[inside].mean()),
            proportion_of_some(correct[inside].sum(), inside.sum()),
        )
        for name, inside in _length_ranges(lengths)
        if inside.any()
    ]


def _length_ranges(lengths: Indices) -> Iterator[tuple[str, Mask]]:
    lows = (0, *(limit + 1 for limit in _LENGTHS))
    for low, high in zip(lows, _LENGTHS, strict=False):
        yield f"{low}–{high}", (lengths >= low) & (lengths <= high)
    yield f"over {_LENGTHS[-1]}", lengths > _LENGTHS[-1]


def _cumulated(scores: Floats, positive: Mask) -> tuple[Indices, Indices]:
    """Return [distinct scores + 1] positives and negatives from each score on, beginning with none."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits, alarms = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.concatenate([[0], hits]), np.concatenate([[0], alarms])


def _thinned(places: Indices) -> Indices:
    if places.size <= _MOST_POINTS:
        return places
    return places[np.unique(np.linspace(0, places.size - 1, _MOST_POINTS).astype(np.intp))]


def _points(x: Floats, y: Floats) -> Points:
    return [*zip(x.tolist(), y.tolist(), strict=True)]
