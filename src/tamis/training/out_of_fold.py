"""Out-of-fold predictions: logits about texts that the model has not learned.

Calibration, the operating point and the search for label issues use these. Near-duplicate clusters are
never split between folds: a near duplicate in the training part would flatter the prediction. Labels too
rare to be held out stay in every training part, and their rows have no out-of-fold prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamis.data.split import assign_folds
from tamis.errors import TrainingError
from tamis.normalization import canonical
from tamis.training.calibration import choose_calibration
from tamis.training.metrics import Indices
from tamis.training.trainers import make_trainer
from tamis.training.trainers.base import EncodedTexts, Logits, Trainer
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

MakeClassifier = Callable[[], Trainer]

# from so many rows on, three folds calibrate as well as five (help-en, 2,549 rows: log loss .5001 and .4993)
_MANY_ROWS = 1000
_FEW_FOLDS, _MANY_FOLDS = 3, 5


@dataclass(frozen=True)
class LearningPart:
    """The training part as models learn it: canonical texts, and into how many folds to divide it."""

    texts: EncodedTexts
    labels: Sequence[str]
    groups: Sequence[str]
    folds: int
    _fold_of: dict[int, Indices] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted distinct labels, in the order of the columns of logits."""
        return tuple(sorted(set(self.labels)))

    def fold_of(self, seed: int) -> Indices:
        """Return [texts] the fold of each, groups whole; -1 for those that are never held out."""
        # kept, also for the same part encoded otherwise: of 60,000 texts it takes a second, and each
        # candidate asks for it
        if seed not in self._fold_of:
            self._fold_of[seed] = assign_folds(self.groups, self.labels, self.folds, seed)
        return self._fold_of[seed]


def default_folds(n_rows: int) -> int:
    """Return the number of folds: fewer if there are many rows, for two thirds of them are enough."""
    return _MANY_FOLDS if n_rows < _MANY_ROWS else _FEW_FOLDS


def out_of_fold_logits(
    make: MakeClassifier, part: LearningPart, *, seed: int, progress: Progress = no_progress
) -> Logits:
    """Return [texts, classes] logits, each by a model trained on the folds that its text is not in.

    Rows that are never held out are NaN.
    """
    return make().cross_fit(part.texts, part.labels, part.fold_of(seed), progress=progress)


@dataclass(frozen=True)
class HeldOutFold:
    """Logits about the texts at `rows`, which the model has not learned.

    `interrupted` is that model if the user stopped it, and None otherwise.
    """

    rows: Indices
    logits: Logits
    interrupted: Trainer | None


def held_out_in_turn(
    make: MakeClassifier, part: LearningPart, *, seed: int, progress: Progress = no_progress
) -> Iterator[HeldOutFold]:
    """Yield logits about one fold after the other, each by a model trained on the other folds.

    A caller may stop after any fold. `progress` is that of each fit.
    """
    fold_of = part.fold_of(seed)
    for fold in np.unique(fold_of[fold_of >= 0]).tolist():
        progress(0, 1)  # a fit of encoded texts may be too quick to report any
        yield _hold_out(make(), part, fold_of == fold, progress=progress)


def held_out_logits(
    make: MakeClassifier,
    part: LearningPart,
    *,
    seed: int,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> HeldOutFold | None:
    """Return logits about the first fold alone, by a model trained on the others.

    For models that are too slow for a whole cross-validation: as unbiased, from fewer texts.
    `checkpoints` is the fit's. None if there are too few texts to hold any out.
    """
    fold_of = part.fold_of(seed)
    if fold_of.max(initial=-1) < 0:
        return None
    # the first fold that has rows: with few groups a fold may have none
    inside = fold_of == fold_of[fold_of >= 0].min()
    return _hold_out(make(), part, inside, progress=progress, notice=notice, checkpoints=checkpoints)


def _hold_out(
    model: Trainer,
    part: LearningPart,
    inside: npt.NDArray[np.bool_],
    *,
    progress: Progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> HeldOutFold:
    rows, others = np.flatnonzero(inside), np.flatnonzero(~inside)
    labels = [part.labels[row] for row in others.tolist()]
    model.fit(part.texts.select(others), labels, progress=progress, notice=notice, checkpoints=checkpoints)
    return HeldOutFold(rows, model.logits(part.texts.select(rows)), model if model.interrupted_ else None)


def out_of_fold(
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 42,
    progress: Progress = no_progress,
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return [texts, classes] calibrated probabilities of the linear model, and the classes in order.

    A row that is never held out has probability 1 for its own label: nothing is known against it. Raises
    TrainingError if no row can be held out.
    """
    make = partial(make_trainer, "linear", {}, seed=seed)
    part = LearningPart(make().encode([canonical(text) for text in texts]), labels, groups, folds)
    # the linear model, because it is quick: five fits for a search that only proposes rows to look at
    logits = out_of_fold_logits(make, part, seed=seed, progress=progress)
    if np.isnan(logits[:, 0]).all():
        raise TrainingError("no label has two distinct texts, so none can be held out")
    chosen = choose_calibration(logits, labels, groups, part.classes, seed=seed)
    probabilities = chosen.calibration(logits)
    unknown = np.flatnonzero(np.isnan(logits[:, 0]))
    # certain of the own label, so that a search for label issues never reports a row without a prediction
    own = np.searchsorted(part.classes, [labels[row] for row in unknown.tolist()])
    probabilities[unknown] = 0.0
    probabilities[unknown, own] = 1.0
    return probabilities, part.classes


@dataclass(frozen=True, slots=True)
class Misclassification:
    """A text whose most probable label is not its own; `row` is that of its file."""

    row: int
    text: str
    label: str
    predicted: str
    probability: float
    source: str | None


def most_confident_errors(
    data: Dataset, probabilities: npt.NDArray[np.float64], classes: Sequence[str], *, max_errors: int = 100
) -> tuple[Misclassification, ...]:
    """Return the errors in [rows, classes] probabilities, the most confident first."""
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(np.asarray(classes)[predicted] != np.asarray(data.labels))
    ranked = wrong[np.argsort(-confidence[wrong], kind="stable")][:max_errors].tolist()
    return tuple(
        Misclassification(
            row=data.rows[i],
            text=data.texts[i],
            label=data.labels[i],
            predicted=classes[int(predicted[i])],
            probability=float(confidence[i]),
            source=data.sources[i] if data.sources is not None else None,
        )
        for i in ranked
    )
