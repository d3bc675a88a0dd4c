"""What is measured of one model on one set of rows, and how every table of it is ordered and worded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tamis.training.metrics import Estimate

# a matrix of more labels would be most of the manifest; `confused` still has its largest cells
_MAX_CONFUSION_LABELS = 50

METRIC_NAMES = {
    "accuracy": "accuracy",
    "matthews": "Matthews correlation",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "calibration_error": "calibration error",
    "log_loss": "log loss",
}
"""Names of the overall metrics by field: terminal, report and model card show these and no others."""


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one label, None if undefined; `support` is how many rows have it.

    Precision is undefined for a label that is never predicted, recall for one without rows, F1 for one that
    is neither.
    """

    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    support: int


@dataclass(frozen=True)
class OperatingPointMetrics:
    """What the model's operating point does on these rows, and what would have been possible.

    `recall_at_cap` moves the threshold to where these very rows have the highest allowed
    false-positive rate: it is optimistic, for comparison with published results. None is undefined.
    """

    positive: str
    threshold: float
    recall: Estimate | None
    precision: Estimate | None
    false_positive_rate: Estimate | None
    max_false_positive_rate: float
    recall_at_cap: float | None


@dataclass(frozen=True)
class ConfusedLabels:
    """How many rows of one label were predicted as another."""

    label: str
    predicted: str
    rows: int


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model on one set of rows; None is undefined on these rows.

    `macro_f1` is the mean over the labels that have rows. `roc_auc` and `average_precision` are those of
    the positive label, or for more than two labels the mean one-vs-rest over the labels that have rows.
    `confusion[i][j]` counts rows of class i predicted as class j; `confused` are its largest counts off the
    diagonal.
    """

    rows: int
    labels: tuple[str, ...]
    accuracy: Estimate
    matthews: Estimate | None
    macro_f1: Estimate
    roc_auc: Estimate | None
    average_precision: Estimate | None
    calibration_error: Estimate
    log_loss: Estimate
    classes: dict[str, ClassMetrics]
    confusion: list[list[int]]
    operating_point: OperatingPointMetrics | None
    confused: tuple[ConfusedLabels, ...] = ()
    sources: dict[str, Evaluation] = field(default_factory=dict)


def bounded_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics for the manifest, without the confusion of many labels."""
    metrics: dict[str, Any] = msgspec.to_builtins(evaluation)
    for one in (metrics, *metrics["sources"].values()):
        if len(evaluation.labels) > _MAX_CONFUSION_LABELS:
            one["confusion"] = []
    return metrics


def by_f1(evaluation: Evaluation) -> list[tuple[str, ClassMetrics]]:
    """Return the labels that have rows, those of lowest F1 first."""
    # the others have no recall, and an F1 of 0 if one row is predicted as them: they are listed apart
    measured = [(label, one) for label, one in evaluation.classes.items() if one.support]
    return sorted(measured, key=lambda item: item[1].f1.value if item[1].f1 is not None else 0.0)


def overall_metrics(evaluation: Evaluation) -> Iterator[tuple[str, Estimate | None]]:
    """Yield name and value of each overall metric, in the order of every table that shows them."""
    for field_name, name in METRIC_NAMES.items():
        yield name, getattr(evaluation, field_name)


def operating_point_metrics(point: OperatingPointMetrics) -> Iterator[tuple[str, Estimate | None]]:
    """Yield name and value of each metric at the operating point."""
    yield "recall", point.recall
    yield "precision", point.precision
    yield f"false-positive rate (cap {point.max_false_positive_rate:.2%})", point.false_positive_rate


def cap_verdict(point: OperatingPointMetrics) -> str:
    """Return in words whether the false-positive cap was kept here, and if not, whether by chance."""
    rate, cap = point.false_positive_rate, point.max_false_positive_rate
    if rate is None:  # every row is positive
        return ""
    if rate.value <= cap:
        return f"The cap of {cap:.2%} false positives was kept: {rate.value:.2%}."
    missed = f"The cap of {cap:.2%} false positives was missed: {rate.value:.2%}"
    if rate.low <= cap:  # the interval holds the cap: another sample of rows might have kept it
        return f"{missed}, which may be chance (95 % interval {rate.low:.2%} – {rate.high:.2%})."
    return f"{missed}, more than chance explains (95 % interval {rate.low:.2%} – {rate.high:.2%})."
