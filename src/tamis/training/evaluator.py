"""Measures a model's probabilities on labelled rows, in all and for each source, with 95 % intervals.

Handles arrays and rows; independent of models and files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.data.labels import count_labels
from tamis.errors import DataError
from tamis.training import metrics
from tamis.training.evaluation import ClassMetrics, ConfusedLabels, Evaluation, OperatingPointMetrics
from tamis.training.metrics import Estimate, Floats, Indices
from tamis.types import Dataset

# of fewer than 100 the 2.5 % quantile would rest on the lowest one or two
_MIN_RESAMPLES, _RESAMPLES = 100, 400
# of resamples times rows: of more than 100,000 rows fewer resamples are drawn
_ALL_CELLS = 40_000_000
# bootstrap weights held at a time: 32 MB, whatever the number of rows
_CHUNK_CELLS = 4_000_000
_BLOCKS = 20
# the 97.5 % quantile of Student's distribution for one degree of freedom less than there are blocks
_STUDENT_975 = 2.093
_MAX_PAIRS = 20


def evaluate(
    probabilities: Floats,
    data: Dataset,
    classes: Sequence[str],
    *,
    operating_point: OperatingPoint | None = None,
    seed: int = 42,
) -> Evaluation:
    """Measure [rows, classes] probabilities against the labels of `data`, in all and for each source.

    Rows of a group are resampled together. Raises DataError if there is no row, or a label that is none of
    `classes`.
    """
    check_labels(data.labels, classes)
    true = metrics.class_indices(data.labels, classes)
    groups = None if data.groups is None else np.unique(np.asarray(data.groups), return_inverse=True)[1]
    rows = _Rows(probabilities, true, groups, tuple(classes), operating_point, seed)
    whole = rows.evaluation()
    if data.sources is None or len(set(data.sources)) < 2:
        return whole
    sources = np.asarray(data.sources, dtype=object)
    for source in sorted(set(data.sources)):
        # a selection has its own resamples: the interval of a source is that of its rows
        whole.sources[source or "(none)"] = rows.select(np.flatnonzero(sources == source)).evaluation()
    return whole


def check_labels(labels: Sequence[str], classes: Sequence[str]) -> None:
    """Raise DataError if there is no row, or there are labels that are none of the model's `classes`."""
    if not labels:
        raise DataError("there is no row to evaluate on")
    unknown = {label: count for label, count in sorted(Counter(labels).items()) if label not in set(classes)}
    if unknown:
        named = count_labels(unknown)
        known = ", ".join(classes) if len(classes) <= _MAX_PAIRS else f"{len(classes):,} others"
        raise DataError(f"labels that the model does not have: {named}; it has {known}")


@dataclass(frozen=True)
class _Rows:
    """The rows that are measured, and what several metrics share."""

    probabilities: Floats
    true: Indices
    groups: Indices | None
    classes: tuple[str, ...]
    point: OperatingPoint | None
    seed: int

    def select(self, rows: Indices) -> _Rows:
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, probabilities=self.probabilities[rows], true=self.true[rows], groups=groups)

    def evaluation(self) -> Evaluation:
        matrix = metrics.confusion(self._ones, self.true, self._predicted, len(self.classes))[0]
        found = self._ranked_means() | self._bootstrapped()
        return Evaluation(
            rows=self.true.size,
            labels=self.classes,
            accuracy=metrics.proportion_of_some(np.trace(matrix), matrix.sum()),
            matthews=found["matthews"][0],
            macro_f1=metrics.defined(found["macro_f1"][0]),
            roc_auc=found["roc_auc"][0],
            average_precision=found["average_precision"][0],
            calibration_error=metrics.defined(found["calibration_error"][0]),
            log_loss=metrics.defined(found["log_loss"][0]),
            classes=_class_metrics(self.classes, matrix),
            confusion=matrix.astype(int).tolist(),
            operating_point=self._operating_point_metrics(),
            confused=_confused(self.classes, matrix),
        )

    @property
    def _ones(self) -> Floats:
        return np.ones((1, self.true.size))

    @cached_property
    def _predicted(self) -> Indices:
        predicted: Indices = self.probabilities.argmax(axis=1)
        return predicted

    @cached_property
    def _resampler(self) -> metrics.Resampler:
        return metrics.Resampler(self.true, self.groups)

    def _metrics(self, weights: Floats) -> dict[str, Floats]:
        """Return the metrics without a closed interval, [resamples] or [resamples, classes]."""
        margins = metrics.Margins.of_rows(weights, self.true, self._predicted, len(self.classes))
        of_label = self.probabilities[np.arange(self.true.size), self.true]
        top = self.probabilities.max(axis=1)
        found = {
            "matthews": margins.matthews(),
            "macro_f1": margins.macro_f1(),
            "calibration_error": metrics.calibration_error(weights, self._predicted == self.true, top),
            "log_loss": metrics.log_loss(weights, of_label),
        }
        # of more labels `_ranked_means` has them: one ranking per label and resample would take too long
        if len(self.classes) == 2:
            column = self.classes.index(self.point.positive) if self.point is not None else 1
            found |= self._ranked(weights, [column])
        return found

    def _bootstrapped(self) -> dict[str, list[Estimate | None]]:
        """Return each of `_metrics` with its percentile interval: one estimate, or one for each class."""
        drawn = [self._metrics(weights) for weights in self._resamples()]
        return {
            name: _estimates(value[0], np.concatenate([part[name] for part in drawn]))
            for name, value in self._metrics(self._ones).items()
        }

    def _resamples(self) -> Iterator[Floats]:
        count = max(_MIN_RESAMPLES, min(_RESAMPLES, _ALL_CELLS // self.true.size))
        chunk = max(1, min(count, _CHUNK_CELLS // self.true.size))
        # each chunk has its own seed, so the same rows give the same resamples on every machine
        for start in range(0, count, chunk):
            yield self._resampler.weights(min(chunk, count - start), self.seed + start)

    def _ranked_means(self) -> dict[str, list[Estimate | None]]:
        """Return the ranking metrics of more than two labels: means over the labels of one-vs-rest.

        Resampling them would take as long as there are labels: their intervals are the jackknife's.
        """
        if len(self.classes) <= 2:
            return {}
        blocks = min(_BLOCKS, self.true.size)
        # the metric itself comes first, as the weighting by ones; the others leave one block out each
        weights = np.concatenate([self._ones, self._resampler.without_each_block(blocks, self.seed)])
        found = self._ranked(weights, np.unique(self.true).tolist())
        return {name: [_jackknifed(values)] for name, values in found.items()}

    def _ranked(self, weights: Floats, columns: Sequence[int]) -> dict[str, Floats]:
        """Return ranking metrics, [resamples] the mean over those of `columns` for which one is defined."""
        # summed up label by label: the rankings of all labels at once would take as many times the memory
        total, defined = np.zeros((2, len(weights))), np.zeros((2, len(weights)))
        for column in columns:
            scores = self.probabilities[:, column]
            ranking = metrics.Ranking.of_rows(weights, self.true == column, scores)
            found = np.stack([ranking.roc_auc(), ranking.average_precision()])
            total += np.nan_to_num(found)
            defined += ~np.isnan(found)
        means = np.divide(total, defined, out=np.full_like(total, np.nan), where=defined > 0)
        return dict(zip(("roc_auc", "average_precision"), means, strict=True))

    def _operating_point_metrics(self) -> OperatingPointMetrics | None:
        if self.point is None:
            return None
        column = self.classes.index(self.point.positive)
        scores, positive = self.probabilities[:, column], self.true == column
        flagged = scores >= self.point.threshold
        return OperatingPointMetrics(
            positive=self.point.positive,
            threshold=self.point.threshold,
            recall=metrics.proportion((flagged & positive).sum(), positive.sum()),
            precision=metrics.proportion((flagged & positive).sum(), flagged.sum()),
            false_positive_rate=metrics.proportion((flagged & ~positive).sum(), (~positive).sum()),
            max_false_positive_rate=self.point.max_false_positive_rate,
            recall_at_cap=_recall_at_cap(scores, positive, self.point.max_false_positive_rate),
        )


def _class_metrics(classes: tuple[str, ...], matrix: Floats) -> dict[str, ClassMetrics]:
    hits, predicted, present = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return {
        label: ClassMetrics(
            precision=metrics.proportion(hits[k], predicted[k]),
            recall=metrics.proportion(hits[k], present[k]),
            f1=metrics.f1_of_counts(hits[k], predicted[k], present[k]),
            support=int(present[k]),
        )
        for k, label in enumerate(classes)
    }


def _confused(classes: Sequence[str], matrix: Floats) -> tuple[ConfusedLabels, ...]:
    errors = matrix.astype(np.intp)
    np.fill_diagonal(errors, 0)
    largest = np.argsort(-errors, axis=None, kind="stable")[:_MAX_PAIRS].tolist()
    pairs = [(*divmod(cell, len(classes)), int(errors.flat[cell])) for cell in largest]
    return tuple(ConfusedLabels(classes[i], classes[j], count) for i, j, count in pairs if count)


def _estimates(value: Floats, drawn: Floats) -> list[Estimate | None]:
    """Return metrics with percentile intervals that reach at least to the metric itself."""
    # a resample without a row of some label has no value: it counts as the metric itself
    drawn = np.where(np.isnan(drawn), value, drawn)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    columns = np.stack([np.atleast_1d(column) for column in (value, low, high)], axis=1).tolist()
    return [None if np.isnan(v) else Estimate(v, min(lo, v), max(hi, v)) for v, lo, hi in columns]


def _jackknifed(values: Floats) -> Estimate | None:
    """Return the first value, a share, with an interval from the others, each without one block of rows."""
    value, parts = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return None
    if parts.size < 2:
        return Estimate(value, 0.0, 1.0)
    variance = (parts.size - 1) / parts.size * ((parts - parts.mean()) ** 2).sum()
    half = _STUDENT_975 * float(np.sqrt(variance))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _recall_at_cap(scores: Floats, positive: npt.NDArray[np.bool_], cap: float) -> float | None:
    negatives = np.sort(scores[~positive])[::-1]
    if not negatives.size or not positive.any():
        return None
    # by the rule of `choose_operating_point`, but on the rows that are measured
    refused = negatives[int(cap * negatives.size)]
    return float((scores[positive] > refused).mean())
