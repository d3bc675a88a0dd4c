"""The report's charts: their points, from probabilities and labels, and a sentence on how to read each.

`svg` lays them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tamis.training.metrics import Estimate, Floats, Indices, proportion_of_some
from tamis.training.report.report_data import Measured
from tamis.training.report.svg import Axis, Chart, Series, chart, count_axis, logarithmic_axis, percent_axis

if TYPE_CHECKING:
    from tamis.training.learning_curve import CurvePoint

Points = list[tuple[float, float]]
Mask = npt.NDArray[np.bool_]

# about a chart's width in pixels: more would only make the report larger
_MAX_POINTS = 300
_BINS = 10
_LENGTHS = (20, 40, 80, 160, 320)
_THRESHOLDS = 101
_MAX_CURVES = 8  # as many as there are colours
_TENTHS = tuple((tenth / 10, f"{tenth / 10:g}") for tenth in range(0, 11, 2))


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
    # points on a straight line between their neighbours draw nothing: most of a good model's curve
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
    # at each recall the highest precision comes first; further false positives only lead straight down
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


def reliability(predicted: Floats, observed: Mask) -> list[Bin]:
    """Return the observed share of rows in each range of predicted probability."""
    bins = np.minimum((predicted * _BINS).astype(np.intp), _BINS - 1)
    names = (f"{number / _BINS:.1f}–{(number + 1) / _BINS:.1f}" for number in range(_BINS))
    return _binned([(name, bins == number) for number, name in enumerate(names)], predicted, observed)


def by_length(lengths: Indices, correct: Mask) -> list[Bin]:
    """Return the accuracy for texts of about the same length."""
    ranges = [
        (f"{low + 1}–{high}", (lengths > low) & (lengths <= high)) for low, high in pairwise((-1, *_LENGTHS))
    ]
    ranges.append((f"over {_LENGTHS[-1]}", lengths > _LENGTHS[-1]))
    return _binned(ranges, lengths, correct)


def _binned(ranges: Iterable[tuple[str, Mask]], values: npt.NDArray[Any], observed: Mask) -> list[Bin]:
    """Return a bin for each named range that has rows: no interval is defined for the others."""
    return [
        Bin(
            name,
            int(inside.sum()),
            float(values[inside].mean()),
            proportion_of_some(observed[inside].sum(), inside.sum()),
        )
        for name, inside in ranges
        if inside.any()
    ]


def _cumulated(scores: Floats, positive: Mask) -> tuple[Indices, Indices]:
    """Return [distinct scores + 1] positives and negatives from each score on, beginning with none."""
    order = np.argsort(-scores, kind="stable")
    # equal scores are flagged together: only the last row of each is a point
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits, alarms = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.concatenate([[0], hits]), np.concatenate([[0], alarms])


def _thinned(points: Indices) -> Indices:
    if points.size <= _MAX_POINTS:
        return points
    # unique, because rounding may give the same index twice; both ends are among them
    return points[np.unique(np.linspace(0, points.size - 1, _MAX_POINTS).astype(np.intp))]


def _points(x: Floats, y: Floats) -> Points:
    return [*zip(x.tolist(), y.tolist(), strict=True)]


@dataclass(frozen=True)
class _Ranked:
    """One label against all others."""

    label: str
    scores: Floats
    positive: Mask

    @property
    def has_both_sides(self) -> bool:
        """Whether there are rows with the label and rows without it."""
        return bool(self.positive.any() and not self.positive.all())


def roc_chart(measured: Measured) -> Chart | None:
    """Return ROC curves, with few false positives given the most room, and the operating point."""
    ranked = [one for one in _ranked(measured) if one.has_both_sides]
    if not ranked:
        return None
    # the axis begins at the rate of a single false positive
    smallest = 1 / max(int((~one.positive).sum()) for one in ranked)
    axis = logarithmic_axis("false-positive rate (logarithmic)", min(smallest, 0.1), 1.0)
    series = [Series(one.label, roc(one.scores, one.positive)) for one in ranked]
    point = measured.evaluation.operating_point
    if point is not None and point.recall is not None and point.false_positive_rate is not None:
        series.append(
            Series("operating point", [(point.false_positive_rate.value, point.recall.value)], "dots")
        )
    caption = (
        f"Every point is a threshold: the share of {_subject(measured)} that is found, against the share of "
        "the other texts that is flagged by mistake. Higher and further left is better."
    )
    return chart("ROC curve", caption, axis, percent_axis("recall"), series)


def precision_recall_chart(measured: Measured) -> Chart | None:
    """Return precision against recall."""
    ranked = [one for one in _ranked(measured) if one.positive.any()]
    if not ranked:
        return None
    drawn = [Series(one.label, precision_recall(one.scores, one.positive)) for one in ranked]
    lowest = min(y for series in drawn for _, y in series.points)
    point = measured.evaluation.operating_point
    if point is not None and point.recall is not None and point.precision is not None:
        drawn.append(Series("operating point", [(point.recall.value, point.precision.value)], "dots"))
    caption = (
        "Every point is a threshold: how many of the flagged texts are right, against how many of "
        f"{_subject(measured)} are found. Higher and further right is better."
    )
    y = percent_axis("precision", min(lowest, 0.9))
    return chart("Precision and recall", caption, percent_axis("recall"), y, drawn)


def threshold_chart(measured: Measured) -> Chart | None:
    """Return what each threshold would do, for two labels."""
    point = measured.evaluation.operating_point
    if point is None:
        return None
    (one,) = _ranked(measured)
    series = [Series(name, line) for name, line in thresholds(one.scores, one.positive).items()]
    chosen = min(point.threshold, 1.0)
    series.append(Series("the chosen threshold", [(chosen, 0.0), (chosen, 1.0)], "guide"))
    x = Axis(f"threshold on the probability of {point.positive}", 0, 1, _TENTHS)
    caption = (
        f"What each threshold would do on these rows; the dashed line is the one chosen in training, "
        f"{point.threshold:.3f}. A higher threshold gives fewer false positives and a lower recall."
    )
    return chart("Threshold analysis", caption, x, percent_axis("share"), series)


def calibration_chart(measured: Measured) -> Chart:
    """Return the observed share against the predicted probability."""
    # with two labels that of the positive one: the larger of two probabilities is never below one half
    if measured.evaluation.operating_point is not None:
        (one,) = _ranked(measured)
        bins, of = reliability(one.scores, one.positive), one.label
    else:
        right = measured.probabilities.argmax(axis=1) == measured.true
        bins, of = reliability(measured.probabilities.max(axis=1), right), "the most probable label"
    points = [(one.middle, one.share.value) for one in bins]
    spread = [(one.share.low, one.share.high) for one in bins]
    series = [
        Series("perfect", [(0.0, 0.0), (1.0, 1.0)], "guide"),
        Series("observed", points, "dots", spread),
    ]
    caption = (
        "Dots on the dashed line mean that probabilities are right: of texts predicted with a probability "
        "of 70 %, 70 % have the label. Bars are 95 % intervals; a long bar means few texts."
    )
    x, y = percent_axis(f"predicted probability of {of}"), percent_axis("observed share")
    return chart("Calibration curve", caption, x, y, series)


def learning_chart(curve: tuple[CurvePoint, ...]) -> Chart | None:
    """Return accuracy against the number of texts learned from."""
    if len(curve) < 2:  # a single point shows no slope
        return None
    points = [(float(point.rows), point.accuracy.value) for point in curve]
    spread = [(point.accuracy.low, point.accuracy.high) for point in curve]
    x = count_axis("training texts (logarithmic)", curve[0].rows, curve[-1].rows)
    y = percent_axis("accuracy on the test part", min(low for low, _ in spread), 1.0)
    series = [Series("", points, "guide"), Series("", points, "dots", spread)]
    # the last half of the rows has raised accuracy beyond the interval: more rows are likely to do so, too
    rising = curve[-1].accuracy.low > curve[-2].accuracy.value
    verdict = "it does, beyond chance" if rising else "here it rises by no more than chance"
    caption = (
        "Accuracy of models trained on smaller parts of the same training texts. If it still rises at the "
        f"right end, more labelled texts would help: {verdict}."
    )
    return chart("Learning curve", caption, x, y, series)


def length_chart(measured: Measured) -> Chart | None:
    """Return accuracy against the length of the text."""
    right = measured.probabilities.argmax(axis=1) == measured.true
    bins = by_length(measured.lengths, right)
    if len(bins) < 2:
        return None
    ticks = tuple((float(index), one.name) for index, one in enumerate(bins))
    x = Axis("characters of the text", -0.5, len(bins) - 0.5, ticks)
    spread = [(one.share.low, one.share.high) for one in bins]
    y = percent_axis("accuracy", min(low for low, _ in spread), 1.0)
    points = [(float(index), one.share.value) for index, one in enumerate(bins)]
    caption = "Accuracy on short and on long texts; a long bar means that there are few texts of that length."
    return chart("Accuracy by length", caption, x, y, [Series("", points, "dots", spread)])


def _subject(measured: Measured) -> str:
    """Return in words the texts that a curve is about."""
    evaluation = measured.evaluation
    if len(evaluation.labels) == 2:
        return f"the {next(_ranked(measured)).label!r} texts"
    if len(evaluation.labels) <= _MAX_CURVES:
        return "each label's texts"
    return f"each label's texts, for the {_MAX_CURVES} labels with most rows"


def _ranked(measured: Measured) -> Iterator[_Ranked]:
    """Yield the positive label, or of more than two labels those with most rows, each against the rest."""
    evaluation = measured.evaluation
    if evaluation.operating_point is not None:
        chosen = [evaluation.labels.index(evaluation.operating_point.positive)]
    elif len(evaluation.labels) == 2:
        chosen = [1]
    else:
        counts = np.bincount(measured.true, minlength=len(evaluation.labels))
        chosen = sorted(np.argsort(-counts, kind="stable")[:_MAX_CURVES].tolist())
    for index in chosen:
        yield _Ranked(evaluation.labels[index], measured.probabilities[:, index], measured.true == index)
