"""The report's charts, each from the facts. Knows what to draw; `svg` knows how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tamis.training.metrics import Floats
from tamis.training.report import curves
from tamis.training.report.curves import Mask
from tamis.training.report.report_data import Measured
from tamis.training.report.svg import Axis, Series, chart, count_axis, logarithmic_axis, percent_axis

if TYPE_CHECKING:
    from tamis.training.learning_curve import CurvePoint

_MOST_CLASSES = 8


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


def roc_chart(measured: Measured) -> str:
    """Return ROC curves, with few false positives given the most room, and the operating point."""
    ranked = [one for one in _ranked(measured) if one.has_both_sides]
    if not ranked:
        return ""
    smallest = 1 / max(int((~one.positive).sum()) for one in ranked)
    axis = logarithmic_axis("false-positive rate (logarithmic)", min(smallest, 0.1), 1.0)
    series = [Series(one.label, _from(curves.roc(one.scores, one.positive), axis.low)) for one in ranked]
    point = measured.evaluation.operating_point
    if point is not None and point.recall is not None and point.false_positive_rate is not None:
        place = (max(point.false_positive_rate.value, axis.low), point.recall.value)
        series.append(Series("operating point", [place], "dots"))
    return chart("ROC: what is found, at which price", axis, percent_axis("recall"), series)


def precision_recall_chart(measured: Measured) -> str:
    """Return precision against recall."""
    ranked = [one for one in _ranked(measured) if one.positive.any()]
    if not ranked:
        return ""
    drawn = [Series(one.label, curves.precision_recall(one.scores, one.positive)) for one in ranked]
    lowest = min(y for series in drawn for _, y in series.points)
    point = measured.evaluation.operating_point
    if point is not None and point.recall is not None and point.precision is not None:
        drawn.append(Series("operating point", [(point.recall.value, point.precision.value)], "dots"))
    y = percent_axis("precision", min(lowest, 0.9))
    return chart("Precision and recall", percent_axis("recall"), y, drawn)


def threshold_chart(measured: Measured) -> str:
    """Return what each threshold would do, for two labels."""
    point = measured.evaluation.operating_point
    if point is None:
        return ""
    (one,) = _ranked(measured)
    series = [Series(name, line) for name, line in curves.thresholds(one.scores, one.positive).items()]
    chosen = min(point.threshold, 1.0)
    series.append(Series("the chosen threshold", [(chosen, 0.0), (chosen, 1.0)], "guide"))
    x = Axis(f"threshold on the probability of {point.positive}", 0, 1, _TENTHS)
    title = f"Threshold analysis (dashed: {point.threshold:.3f}, chosen in training)"
    return chart(title, x, percent_axis("share"), series)


def calibration_chart(measured: Measured) -> str:
    """Return how often it happened where it was predicted with about that probability."""
    if measured.evaluation.operating_point is not None:
        (one,) = _ranked(measured)
        bins, of = curves.reliability(one.scores, one.positive), one.label
    else:
        right = measured.probabilities.argmax(axis=1) == measured.true
        bins, of = curves.reliability(measured.probabilities.max(axis=1), right), "the label"
    points = [(one.middle, one.share.value) for one in bins]
    spread = [(one.share.low, one.share.high) for one in bins]
    series = [
        Series("perfect", [(0.0, 0.0), (1.0, 1.0)], "guide"),
        Series("observed", points, "dots", spread),
    ]
    return chart(
        "Calibration: do probabilities come true?",
        percent_axis(f"predicted probability of {of}"),
        percent_axis("how often it was so"),
        series,
    )


def learning_chart(curve: tuple[CurvePoint, ...]) -> str:
    """Return accuracy against the number of texts learned from."""
    if len(curve) < 2:
        return ""
    points = [(float(point.rows), point.accuracy.value) for point in curve]
    spread = [(point.accuracy.low, point.accuracy.high) for point in curve]
    x = count_axis("texts learned from (logarithmic)", curve[0].rows, curve[-1].rows)
    y = percent_axis("accuracy on the test part", min(low for low, _ in spread), 1.0)
    series = [Series("", points), Series("", points, "dots", spread)]
    return chart("Learning curve: would more texts help?", x, y, [_guide(series[0]), series[1]])


def length_chart(measured: Measured) -> str:
    """Return accuracy against the length of the text."""
    right = measured.probabilities.argmax(axis=1) == measured.true
    bins = curves.by_length(measured.lengths, right)
    if len(bins) < 2:
        return ""
    ticks = tuple((float(place), one.name) for place, one in enumerate(bins))
    x = Axis("characters of the text", -0.5, len(bins) - 0.5, ticks)
    spread = [(one.share.low, one.share.high) for one in bins]
    y = percent_axis("accuracy", min(low for low, _ in spread), 1.0)
    points = [(float(place), one.share.value) for place, one in enumerate(bins)]
    return chart("Accuracy by length", x, y, [Series("", points, "dots", spread)])


_TENTHS = tuple((tenth / 10, f"{tenth / 10:g}") for tenth in range(0, 11, 2))


def _ranked(measured: Measured) -> Iterator[_Ranked]:
    """Return the positive label, or of more than two labels those with most rows, each against the rest."""
    evaluation = measured.evaluation
    if evaluation.operating_point is not None:
        chosen = [evaluation.labels.index(evaluation.operating_point.positive)]
    elif len(evaluation.labels) == 2:
        chosen = [1]
    else:
        counts = np.bincount(measured.true, minlength=len(evaluation.labels))
        chosen = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist())
    for place in chosen:
        yield _Ranked(evaluation.labels[place], measured.probabilities[:, place], measured.true == place)


def _from(points: curves.Points, least: float) -> curves.Points:
    """Draw what lies left of a logarithmic axis at its edge."""
    return [(max(x, least), y) for x, y in points]


def _guide(series: Series) -> Series:
    return Series(series.name, series.points, "guide")
