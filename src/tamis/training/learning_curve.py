"""How accuracy grows with the number of texts to learn from: whether labelling more would help.

Every model is tested on the same part; the smaller training parts lie within the larger ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tamis.data.split import grouped_parts
from tamis.errors import DataError, TrainingError
from tamis.records import Dataset, Progress, no_progress
from tamis.text import canonical
from tamis.training import metrics
from tamis.training.evaluate import Estimate, proportion
from tamis.training.learn import TrainSettings, untrained

_STEPS = (0.05, 0.05, 0.15, 0.25, 0.5)
"""Shares of the training part by which it grows, so that it has 5, 10, 25, 50 and 100 %."""

_FEWEST_ROWS_A_CLASS = 3


@dataclass(frozen=True)
class CurvePoint:
    """A model that learned from so many rows, on the test part; the interval of accuracy is Wilson's."""

    rows: int
    accuracy: Estimate
    matthews: float


def learning_curve(
    train: Dataset, test: Dataset, settings: TrainSettings, *, progress: Progress = no_progress
) -> tuple[CurvePoint, ...]:
    """Train on growing parts, groups whole; parts that are too small to learn from are left out."""
    return tuple(_points(train, test, settings, progress))


def _points(
    train: Dataset, test: Dataset, settings: TrainSettings, progress: Progress
) -> Iterator[CurvePoint]:
    groups = train.groups if train.groups is not None else [str(row) for row in range(len(train))]
    try:
        part_of = grouped_parts(groups, train.labels, list(_STEPS), settings.seed)
    except DataError:
        return
    texts = [canonical(text) for text in test.texts]
    for step in range(len(_STEPS)):
        progress(step, len(_STEPS))
        part = train.select(np.flatnonzero(part_of <= step).tolist())
        if part.classes != train.classes or len(part) < _FEWEST_ROWS_A_CLASS * len(part.classes):
            continue
        try:
            model = untrained(settings).fit([canonical(text) for text in part.texts], list(part.labels))
        except TrainingError:
            continue
        yield _point(len(part), model.logits(texts).argmax(axis=1), test, model.classes_)
    progress(len(_STEPS), len(_STEPS))


def _point(rows: int, predicted: metrics.Indices, test: Dataset, classes: tuple[str, ...]) -> CurvePoint:
    true = np.array([classes.index(label) for label in test.labels], np.intp)
    matrix = metrics.confusion(np.ones((1, true.size)), true, predicted, len(classes))
    return CurvePoint(rows, proportion(np.trace(matrix[0]), true.size), float(metrics.matthews(matrix)[0]))
