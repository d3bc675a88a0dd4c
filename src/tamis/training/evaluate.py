"""How good a model's probabilities are, each figure with a 95 % interval.

Takes arrays and labels; knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.errors import DataError
from tamis.training import metrics
from tamis.training.metrics import Floats, Indices

_RankingFigure = Callable[[Floats, npt.NDArray[np.bool_], Floats], Floats]

_RESAMPLES = 400
_CHUNK_CELLS = 4_000_000
"""Bootstrap weights held at a time: 32 MB, whatever the number of rows."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval: Wilson's for proportions, bootstrap percentiles for the others."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one label; `support` is how many rows have it."""

    precision: Estimate
    recall: Estimate
    f1: Estimate
    support: int


@dataclass(frozen=True)
class OperatingFigures:
    """What the model's operating point does on these rows, and what would have been possible.

    `recall_at_cap` moves the threshold to where these very rows have the highest allowed
    false-positive rate: it flatters, and stands here for comparison with published figures.
    """

    positive: str
    threshold: float
    recall: Estimate
    precision: Estimate
    false_positive_rate: Estimate
    max_false_positive_rate: float
    recall_at_cap: float


@dataclass(frozen=True)
class Evaluation:
    """All figures of one model on one set of rows.

    `roc_auc` and `average_precision` are those of the positive label, or for more than two classes
    the mean over one-against-rest. `confusion[i][j]` counts rows of class i predicted as class j.
    """

    rows: int
    labels: tuple[str, ...]
    accuracy: Estimate
    matthews: Estimate
    macro_f1: Estimate
    roc_auc: Estimate
    average_precision: Estimate
    calibration_error: Estimate
    log_loss: Estimate
    classes: dict[str, ClassFigures]
    confusion: list[list[int]]
    operating_point: OperatingFigures | None
    sources: dict[str, Evaluation] = field(default_factory=dict)


def evaluate(
    probabilities: Floats,
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    operating_point: OperatingPoint | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 42,
) -> Evaluation:
    """Measure [rows, classes] probabilities against the rows' labels, in all and for each source.

    Raises DataError where there is no row, or a label that is none of `classes`.
    """
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(f"label {unknown[0]!r} is none of the model's: {', '.join(classes)}")
    if not labels:
        raise DataError("there is no row to evaluate on")
    places = {label: index for index, label in enumerate(classes)}
    true = np.fromiter((places[label] for label in labels), np.intp, len(labels))
    whole = _Measured(probabilities, true, tuple(classes), operating_point, seed).evaluation()
    if sources is None or len(set(sources)) < 2:
        return whole
    for source in sorted(set(sources)):
        rows = np.flatnonzero(np.asarray(sources, dtype=object) == source)
        part = _Measured(probabilities[rows], true[rows], tuple(classes), operating_point, seed)
        whole.sources[source or "(none)"] = part.evaluation()
    return whole


@dataclass(frozen=True)
class _Measured:
    """The rows being measured, and the figures that share their arrays."""

    probabilities: Floats
    true: Indices
    classes: tuple[str, ...]
    point: OperatingPoint | None
    seed: int

    def evaluation(self) -> Evaluation:
        matrix = self._confusion(self._ones)[0]
        spread = self._bootstrap()
        return Evaluation(
            rows=self.true.size,
            labels=self.classes,
            accuracy=proportion(np.trace(matrix), matrix.sum()),
            matthews=spread["matthews"][0],
            macro_f1=spread["macro_f1"][0],
            roc_auc=spread["roc_auc"][0],
            average_precision=spread["average_precision"][0],
            calibration_error=spread["calibration_error"][0],
            log_loss=spread["log_loss"][0],
            classes=_class_figures(self.classes, matrix, spread["f1"]),
            confusion=matrix.astype(int).tolist(),
            operating_point=self._operating_figures(),
        )

    @property
    def _ones(self) -> Floats:
        return np.ones((1, self.true.size))

    @cached_property
    def _predicted(self) -> Indices:
        predicted: Indices = self.probabilities.argmax(axis=1)
        return predicted

    def _confusion(self, weights: Floats) -> Floats:
        return metrics.confusion(weights, self.true, self._predicted, len(self.classes))

    def _figures(self, weights: Floats) -> dict[str, Floats]:
        """Return every figure that has no closed interval, [resamples] or [resamples, classes]."""
        matrix = self._confusion(weights)
        f1 = metrics.precision_recall_f1(matrix)[2]
        of_label = self.probabilities[np.arange(self.true.size), self.true]
        top = self.probabilities.max(axis=1)
        return {
            "matthews": metrics.matthews(matrix),
            "macro_f1": f1.mean(axis=1),
            "f1": f1,
            "roc_auc": self._ranked(metrics.roc_auc, weights),
            "average_precision": self._ranked(metrics.average_precision, weights),
            "calibration_error": metrics.calibration_error(weights, self._predicted == self.true, top),
            "log_loss": metrics.log_loss(weights, of_label),
        }

    def _ranked(self, figure: _RankingFigure, weights: Floats) -> Floats:
        """Average a ranking figure over the labels that it is to be measured for."""
        if self.point is not None:
            columns = [self.classes.index(self.point.positive)]
        else:
            columns = [1] if len(self.classes) == 2 else list(range(len(self.classes)))
        each = [figure(weights, self.true == column, self.probabilities[:, column]) for column in columns]
        mean: Floats = np.mean(each, axis=0)
        return mean

    def _bootstrap(self) -> dict[str, list[Estimate]]:
        """Return each of `_figures` with its percentile interval, a list of one or of one for each class."""
        chunk = max(1, min(_RESAMPLES, _CHUNK_CELLS // self.true.size))
        drawn = [
            self._figures(metrics.bootstrap_weights(self.true.size, chunk, self.seed + start))
            for start in range(0, _RESAMPLES, chunk)
        ]
        return {
            name: _estimates(value[0], np.concatenate([part[name] for part in drawn]))
            for name, value in self._figures(self._ones).items()
        }

    def _operating_figures(self) -> OperatingFigures | None:
        if self.point is None:
            return None
        column = self.classes.index(self.point.positive)
        scores, positive = self.probabilities[:, column], self.true == column
        flagged = scores >= self.point.threshold
        return OperatingFigures(
            positive=self.point.positive,
            threshold=self.point.threshold,
            recall=proportion((flagged & positive).sum(), positive.sum()),
            precision=proportion((flagged & positive).sum(), flagged.sum()),
            false_positive_rate=proportion((flagged & ~positive).sum(), (~positive).sum()),
            max_false_positive_rate=self.point.max_false_positive_rate,
            recall_at_cap=_recall_at_cap(scores, positive, self.point.max_false_positive_rate),
        )


def _class_figures(classes: tuple[str, ...], matrix: Floats, f1: list[Estimate]) -> dict[str, ClassFigures]:
    hits, predicted, present = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return {
        label: ClassFigures(
            precision=proportion(hits[k], predicted[k]),
            recall=proportion(hits[k], present[k]),
            f1=f1[k],
            support=int(present[k]),
        )
        for k, label in enumerate(classes)
    }


def _estimates(value: Floats, drawn: Floats) -> list[Estimate]:
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    columns = zip(np.atleast_1d(value), np.atleast_1d(low), np.atleast_1d(high), strict=True)
    return [Estimate(float(v), float(lo), float(hi)) for v, lo, hi in columns]


def _recall_at_cap(scores: Floats, positive: npt.NDArray[np.bool_], cap: float) -> float:
    negatives = np.sort(scores[~positive])[::-1]
    if not negatives.size or not positive.any():
        return 0.0
    refused = negatives[int(cap * negatives.size)]
    return float((scores[positive] > refused).mean())


def proportion(successes: float, trials: float) -> Estimate:
    """Return a share with its Wilson interval; 0 where there are no trials."""
    value = float(successes / trials) if trials else 0.0
    return Estimate(value, *metrics.wilson(float(successes), float(trials)))
