"""How accuracy grows with the number of texts to learn from: whether more labelled texts would help.

Every model is tested on the same part; the smaller training parts lie within the larger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tamis.data.split import grouped_parts
from tamis.errors import DataError, TrainingError
from tamis.training import metrics
from tamis.training.fit import TrainSettings, untrained
from tamis.training.metrics import Estimate, proportion_of_some
from tamis.training.out_of_fold import LearningPart
from tamis.training.trainers.base import EncodedTexts, Trainer

_STEPS = (0.05, 0.05, 0.15, 0.25, 0.5)
"""Shares of the training part by which it grows, so that it has 5, 10, 25, 50 and 100 %."""

# with fewer there is hardly a row to learn each label from
_MIN_ROWS_PER_CLASS = 3


@dataclass(frozen=True)
class CurvePoint:
    """A model that learned this many rows, on the test part; the interval of accuracy is Wilson's."""

    rows: int
    accuracy: Estimate
    matthews: float | None


@dataclass(frozen=True)
class HeldOutPart:
    """Canonical texts that no model has learned, and their labels."""

    texts: EncodedTexts
    labels: Sequence[str]


def learning_curve(
    train: LearningPart, test: HeldOutPart, settings: TrainSettings, *, whole: Trainer | None = None
) -> tuple[CurvePoint, ...]:
    """Train on growing parts, groups whole; parts that are too small to learn from are left out.

    `whole` is the model that has learned all of `train`, if there is one already.
    """
    try:
        part_of = grouped_parts(train.groups, train.labels, list(_STEPS), settings.seed)
    except DataError:  # fewer groups than points
        return ()
    points = []
    for step in range(len(_STEPS)):
        rows = np.flatnonzero(part_of <= step)
        labels = [train.labels[row] for row in rows.tolist()]
        if len(set(labels)) < len(train.classes) or len(labels) < _MIN_ROWS_PER_CLASS * len(train.classes):
            continue
        try:
            model = whole if whole is not None and rows.size == len(train.labels) else None
            model = model or untrained(settings).fit(train.texts.select(rows), labels)
        except TrainingError:  # such as a part without any feature that is frequent enough
            continue
        points.append(_point(rows.size, model, test))
    return tuple(points)


def _point(n_rows: int, model: Trainer, test: HeldOutPart) -> CurvePoint:
    true = metrics.class_indices(test.labels, model.classes_)
    # uncalibrated: a calibration would take a cross-validation for each point
    predicted = model.logits(test.texts).argmax(axis=1)
    margins = metrics.Margins.of_rows(np.ones((1, true.size)), true, predicted, len(model.classes_))
    matthews = float(margins.matthews()[0])
    accuracy = proportion_of_some(margins.hits.sum(), true.size)
    return CurvePoint(n_rows, accuracy, None if np.isnan(matthews) else matthews)
