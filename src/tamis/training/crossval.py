"""Answers about texts that the model has not seen, for every text of the training part.

Calibration, the operating point and the search for wrong labels all rest on these. Groups are never
torn apart, or a near twin in another fold would flatter the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def out_of_fold_logits(  # noqa: PLR0913 - three columns of the data, three settings
    make: MakeClassifier,
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    seed: int,
    progress: Progress = no_progress,
) -> Logits:
    """Return [texts, classes] logits, each by a model trained on the folds that its text is not in.

    Texts are canonical. Raises TrainingError where a class has too few groups for cross-validation.
    """
    classes = sorted(set(labels))
    fold_of = grouped_parts(groups, labels, shares=[1 / folds] * folds, seed=seed)
    logits = np.zeros((len(texts), len(classes)))
    for fold in range(folds):
        progress(fold, folds)
        inside, outside = _where(fold_of == fold), _where(fold_of != fold)
        model = make().fit([texts[i] for i in outside], [labels[i] for i in outside])
        _check_all_classes(set(model.classes_), labels)
        logits[inside] = model.logits([texts[i] for i in inside])
    progress(folds, folds)
    return logits


@dataclass(frozen=True)
class Held:
    """What a model says about texts that it has not learned: `rows` are their places.

    `interrupted` is that model where the user stopped it, and None otherwise.
    """

    rows: list[int]
    logits: Logits
    interrupted: TrainableClassifier | None


def held_out_logits(  # noqa: PLR0913 - three columns of the data, three settings, two callbacks
    make: MakeClassifier,
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    seed: int,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> Held:
    """Return logits about the first fold alone, by a model trained on the others.

    For models that take too long to be trained once a fold: as honest as the whole of
    `out_of_fold_logits`, from fewer texts. Texts are canonical; `checkpoints` is the fit's. Raises
    TrainingError where a class is in one part only.
    """
    fold_of = grouped_parts(groups, labels, shares=[1 / folds] * folds, seed=seed)
    inside, outside = _where(fold_of == 0), _where(fold_of != 0)
    for part in (inside, outside):
        _check_all_classes({labels[i] for i in part}, labels)
    model = make().fit(
        [texts[i] for i in outside],
        [labels[i] for i in outside],
        progress=progress,
        notice=notice,
        checkpoints=checkpoints,
    )
    logits = model.logits([texts[i] for i in inside])
    return Held(inside, logits, model if model.interrupted_ else None)


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
    canonical_texts = [canonical(text) for text in texts]
    logits = out_of_fold_logits(
        lambda: make_classifier("linear", {}, seed=seed),
        canonical_texts,
        labels,
        groups,
        folds=folds,
        seed=seed,
        progress=progress,
    )
    return fit_calibration(logits, labels)(logits), tuple(sorted(set(labels)))


def _check_all_classes(present: set[str], labels: Sequence[str]) -> None:
    missing = sorted(set(labels) - present)
    if missing:
        raise TrainingError(
            f"label {missing[0]!r} has too few different texts to cross-validate: add more or merge it"
        )


def _where(mask: npt.NDArray[np.bool_]) -> list[int]:
    places: list[int] = np.flatnonzero(mask).tolist()
    return places
