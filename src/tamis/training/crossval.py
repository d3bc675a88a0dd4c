"""Answers about texts that the model has not seen, for every text of the training part.

Calibration, the operating point and the search for wrong labels all rest on these. Groups are never
torn apart, or a near twin in another fold would flatter the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamis.data.split import grouped_parts
from tamis.errors import TrainingError
from tamis.models import make_classifier
from tamis.models.base import Logits, TrainableClassifier
from tamis.records import Notice, Progress, no_notice, no_progress
from tamis.text import canonical
from tamis.training.calibrate import fit_calibration

MakeClassifier = Callable[[], TrainableClassifier]


@dataclass(frozen=True)
class LearningPart:
    """The training part as models learn it: canonical texts, and how many folds its groups allow."""

    texts: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str]
    folds: int

    def fold_of(self, seed: int) -> npt.NDArray[np.intp]:
        """Return [texts] the fold of each, groups whole."""
        return grouped_parts(self.groups, self.labels, shares=[1 / self.folds] * self.folds, seed=seed)


def out_of_fold_logits(
    make: MakeClassifier, part: LearningPart, *, seed: int, progress: Progress = no_progress
) -> Logits:
    """Return [texts, classes] logits, each by a model trained on the folds that its text is not in.

    Raises TrainingError where a class has too few groups for cross-validation.
    """
    logits = np.zeros((len(part.texts), len(set(part.labels))))
    progress(0, part.folds)
    for done, held in enumerate(held_out_in_turn(make, part, seed=seed), 1):
        logits[held.rows] = held.logits
        progress(done, part.folds)
    return logits


@dataclass(frozen=True)
class Held:
    """What a model says about texts that it has not learned: `rows` are their places.

    `interrupted` is that model where the user stopped it, and None otherwise.
    """

    rows: list[int]
    logits: Logits
    interrupted: TrainableClassifier | None


def held_out_in_turn(
    make: MakeClassifier, part: LearningPart, *, seed: int, progress: Progress = no_progress
) -> Iterator[Held]:
    """Yield logits about one fold after the other, each by a model trained on the others.

    Whoever has seen enough takes no further fold. `progress` is that of each fit.
    """
    fold_of = part.fold_of(seed)
    for fold in range(part.folds):
        inside, outside = _where(fold_of == fold), _where(fold_of != fold)
        check_all_classes({part.labels[i] for i in outside}, part.labels)
        yield _asked(_fit(make, part, outside, progress=progress), part, inside)


def held_out_logits(
    make: MakeClassifier,
    part: LearningPart,
    *,
    seed: int,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> Held:
    """Return logits about the first fold alone, by a model trained on the others.

    For models that take too long to be trained once a fold: as honest as the whole of
    `out_of_fold_logits`, from fewer texts. `checkpoints` is the fit's. Raises TrainingError where a
    class is in one part only.
    """
    fold_of = part.fold_of(seed)
    inside, outside = _where(fold_of == 0), _where(fold_of != 0)
    for rows in (inside, outside):
        check_all_classes({part.labels[i] for i in rows}, part.labels)
    model = _fit(make, part, outside, progress=progress, notice=notice, checkpoints=checkpoints)
    return _asked(model, part, inside)


def _fit(
    make: MakeClassifier,
    part: LearningPart,
    rows: list[int],
    *,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> TrainableClassifier:
    texts, labels = [part.texts[i] for i in rows], [part.labels[i] for i in rows]
    return make().fit(texts, labels, progress=progress, notice=notice, checkpoints=checkpoints)


def _asked(model: TrainableClassifier, part: LearningPart, rows: list[int]) -> Held:
    logits = model.logits([part.texts[i] for i in rows])
    return Held(rows, logits, model if model.interrupted_ else None)


def out_of_fold(
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 42,
    progress: Progress = no_progress,
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return [texts, classes] calibrated probabilities of the linear model, and the classes in order."""
    part = LearningPart([canonical(text) for text in texts], labels, groups, folds)
    make = partial(make_classifier, "linear", {}, seed=seed)
    logits = out_of_fold_logits(make, part, seed=seed, progress=progress)
    return fit_calibration(logits, labels)(logits), tuple(sorted(set(labels)))


def check_all_classes(present: set[str], labels: Sequence[str]) -> None:
    """Raise TrainingError where a label is in one part of the texts only."""
    missing = sorted(set(labels) - present)
    if missing:
        raise TrainingError(
            f"label {missing[0]!r} has too few different texts to cross-validate: add more or merge it"
        )


def _where(mask: npt.NDArray[np.bool_]) -> list[int]:
    places: list[int] = np.flatnonzero(mask).tolist()
    return places
