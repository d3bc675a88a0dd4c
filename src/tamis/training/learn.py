"""Learns from the training part: finds out how well by cross-validation, calibrates, then fits the whole.

Knows classifiers by their seam; never sees the test part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.errors import TrainingError
from tamis.models import make_classifier
from tamis.models.base import Calibration, Logits, TrainableClassifier
from tamis.records import Dataset, Notice, Progress, no_notice, no_progress
from tamis.text import canonical
from tamis.training.calibrate import (
    ChosenCalibration,
    choose_calibration,
    choose_operating_point,
    default_positive,
)
from tamis.training.crossval import LearningPart, held_out_logits, out_of_fold_logits


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    model:                    a name of `tamis.models.TRAINABLE`
    overrides:                hyper-parameters by name, as text
    positive:                 the label whose false positives are capped; by default the rarer one
    max_false_positive_rate:  the cap, for two classes
    folds:                    parts of the cross-validation that calibrates; of slow models only one is tried;
                              fewer where there are fewer groups
    data_licence:             of the data, in the user's words, for the model card
    """

    model: str = "linear"
    overrides: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None
    max_false_positive_rate: float = 0.005
    folds: int = 5
    seed: int = 42
    data_licence: str | None = None


@dataclass(frozen=True)
class Learned:
    """A trained model with what turns its logits into probabilities and decisions."""

    model: TrainableClassifier
    calibrated: ChosenCalibration
    operating_point: OperatingPoint | None

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts, classes] probabilities of texts as they came."""
        return self.calibrated.calibration(self.model.logits([canonical(text) for text in texts]))


def learn(
    data: Dataset,
    settings: TrainSettings,
    *,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> Learned:
    """Find out how the model does on texts it has not seen, to calibrate; then learn from the whole part.

    A slow model keeps in `checkpoints` how far it is, and goes on from what the same work left there.
    """
    part = part_to_learn(data, settings)
    if is_slow(settings):
        return _learn_slowly(part, settings, progress, notice, checkpoints)
    return _learn_quickly(part, settings, progress, notice)


def part_to_learn(data: Dataset, settings: TrainSettings) -> LearningPart:
    """Return what is to be learned; raise TrainingError where that cannot be done with these settings."""
    _check_classes(data.classes, settings)
    groups = data.groups if data.groups is not None else [str(row) for row in range(len(data))]
    folds = max(2, min(settings.folds, len(set(groups))))
    return LearningPart([canonical(text) for text in data.texts], list(data.labels), groups, folds)


def _learn_quickly(
    part: LearningPart, settings: TrainSettings, progress: Progress, notice: Notice
) -> Learned:
    """Cross-validate over every fold."""
    logits = out_of_fold_logits(
        lambda: untrained(settings),
        part,
        seed=settings.seed,
        progress=lambda done, folds: progress(done, folds + 1),
    )
    chosen = choose_calibration(logits, part.labels, part.groups, seed=settings.seed)
    point = _operating_point(chosen.calibration, logits, part.labels, settings, "out-of-fold answers")
    model = untrained(settings).fit(part.texts, part.labels, notice=notice)
    progress(part.folds + 1, part.folds + 1)
    return Learned(model, chosen, point)


def _learn_slowly(
    part: LearningPart,
    settings: TrainSettings,
    progress: Progress,
    notice: Notice,
    checkpoints: Path | None,
) -> Learned:
    """Calibrate on one held-out fold; a model that the user stops there is the one that is kept."""
    held = held_out_logits(
        lambda: untrained(settings),
        part,
        seed=settings.seed,
        progress=lambda done, total: progress(done, 2 * total),
        notice=lambda text: notice(f"to calibrate, {text}"),
        checkpoints=checkpoints and checkpoints / "held-out",
    )
    held_labels = [part.labels[row] for row in held.rows]
    held_groups = [part.groups[row] for row in held.rows]
    chosen = choose_calibration(held.logits, held_labels, held_groups, seed=settings.seed)
    point = _operating_point(
        chosen.calibration, held.logits, held_labels, settings, "answers about one held-out fold"
    )
    model = held.interrupted or untrained(settings).fit(
        part.texts,
        part.labels,
        progress=lambda done, total: progress(total + done, 2 * total),
        notice=notice,
        checkpoints=checkpoints and checkpoints / "all",
    )
    return Learned(model, chosen, point)


def is_slow(settings: TrainSettings) -> bool:
    """Return whether such a model takes too long to be trained several times without being asked."""
    return untrained(settings).slow


def untrained(settings: TrainSettings) -> TrainableClassifier:
    """Make a classifier of these settings that has learned nothing yet."""
    return make_classifier(settings.model, settings.overrides, seed=settings.seed)


def _check_classes(classes: tuple[str, ...], settings: TrainSettings) -> None:
    if len(classes) < 2:
        raise TrainingError(f"training needs at least two classes; the training part has {list(classes)}")
    if settings.positive is not None and settings.positive not in classes:
        raise TrainingError(f"--positive {settings.positive}: the labels are {', '.join(classes)}")


def _operating_point(
    calibration: Calibration, logits: Logits, labels: Sequence[str], settings: TrainSettings, chosen_on: str
) -> OperatingPoint | None:
    if logits.shape[1] != 2:
        return None
    return choose_operating_point(
        calibration(logits),
        labels,
        positive=settings.positive or default_positive(labels),
        max_false_positive_rate=settings.max_false_positive_rate,
        chosen_on=f"{chosen_on} of the training part",
    )
