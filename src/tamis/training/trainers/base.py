"""The interface of everything that can be trained.

A trainer gives *logits*, not probabilities: `Calibration` turns them into probabilities once it
has been fitted on texts that the model had not seen, and `export` folds it into what is saved.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.models.scorer import softmax
from tamis.types import Notice, Progress, no_notice, no_progress

Logits = npt.NDArray[np.float64]
"""[texts, classes] unbounded scores; a column a class, in the order of `classes_`."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probabilities are softmax(scale · logits + bias); with two classes this is Platt's scaling."""

    scale: float
    bias: tuple[float, ...]

    def __call__(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Return [texts, classes] probabilities."""
        return softmax(self.scale * logits + np.asarray(self.bias))


@dataclass(frozen=True, slots=True)
class TopFeature:
    """A feature with a large weight for a class: its family, its text, its weight."""

    family: str
    name: str
    weight: float


class EncodedTexts(Sequence[str]):
    """Canonical texts together with what a trainer computed from them once, such as feature counts.

    It is a sequence of texts and can be passed wherever a trainer takes texts. `select` and slices keep what
    was computed; a trainer with other settings ignores it and computes its own.
    """

    def __init__(self, texts: Sequence[str]):
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedTexts: ...
    def __getitem__(self, index: int | slice) -> str | EncodedTexts:
        # a slice of a list would lose what was computed, without an error
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        return self._texts[index]

    def select(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> EncodedTexts:
        """Return the texts at `rows` (indices, not a mask), in that order, with what was computed."""
        return EncodedTexts([self._texts[row] for row in rows])


class Trainer(ABC):
    """A model that learns from texts. `__init__` only stores hyper-parameters.

    Learned attributes end in an underscore and exist after `fit`. Texts are canonical
    (`tamis.normalization.canonical`), in training and afterwards.
    """

    kind: ClassVar[str]
    """The name, in `tamis.models.SCORERS`, of the scorer that serves what `export` writes."""

    libraries: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide what is learned; the manifest records them."""

    formats: ClassVar[tuple[str, ...]] = ()
    """What `export_as` can write for users of other libraries."""

    is_slow: ClassVar[bool] = False
    """Whether fitting is so slow that one held-out part replaces a cross-validation."""

    classes_: tuple[str, ...]
    # of the class, because quick trainers never set it
    interrupted_: bool = False
    """Whether the user stopped learning early; what was learned until then is kept."""

    @abstractmethod
    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        progress: Progress = no_progress,
        notice: Notice = no_notice,
        checkpoints: Path | None = None,
    ) -> Self:
        """Learn from `texts` and `labels` of equal length with at least two classes.

        A slow model writes its state to the folder `checkpoints`; the same fit, after it was killed, resumes
        from there. Quick models write nothing. Raises TrainingError if nothing can be learned. The same input
        and settings give the same model, bit for bit, whatever the number of threads.
        """

    @abstractmethod
    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits; a text's own do not depend on the others."""

    def alternative(self, texts: Sequence[str], labels: Sequence[str]) -> Mapping[str, str]:
        """Return hyper-parameters by name that such data may be learned better with, if trying them is cheap.

        Empty if there are none; must not depend on what a model predicts.
        """
        return {}

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Compute once what `fit`, `cross_fit` and `logits` need of canonical `texts`.

        Pass the result, or a selection of its rows, in place of the texts: the model is the same, to the bit.
        """
        return EncodedTexts(texts)

    def cross_fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        fold_of: npt.NDArray[np.integer[Any]],
        *,
        progress: Progress = no_progress,
    ) -> Logits:
        """Return [texts, classes] out-of-fold logits, classes in the order of the sorted distinct `labels`.

        Row i's logits come from a model that learned, by `fit`, every row whose fold differs from
        `fold_of[i]`. Rows with `fold_of` -1 are in every training part and get NaN. To hold out a single
        part, number its rows 0 and all others -1. `self` learns nothing. `progress` counts folds.
        Raises TrainingError if a training part lacks a label.
        """
        classes = tuple(sorted(set(labels)))
        # once for all folds: each of them would count the features of nearly the same texts
        encoded = texts if isinstance(texts, EncodedTexts) else self.encode(texts)
        logits = np.full((len(texts), len(classes)), np.nan)
        folds = np.unique(fold_of[fold_of >= 0])
        progress(0, folds.size)
        for done, fold in enumerate(folds, 1):
            inside, outside = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
            learned = [labels[row] for row in outside.tolist()]
            # otherwise the columns of this fold's logits would be those of fewer classes
            check_labels_are_learned(learned, classes)
            # a copy, because a trainer is one model; its hyper-parameters are all that it has before `fit`
            model = copy.copy(self).fit(encoded.select(outside), learned)
            logits[inside] = model.logits(encoded.select(inside))
            progress(done, folds.size)
        return logits

    def unknown_shares(self, texts: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Return [texts] the share of each canonical text's features that the trained model does not know."""
        return None

    def summary(self) -> str:
        """Return what the trained model is made of, one part a line; nothing by default."""
        return ""

    @abstractmethod
    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write the scorer's files into `folder`; return the settings that the manifest keeps for it."""

    def top_features(self, texts: Sequence[str], *, max_features: int) -> Mapping[str, Sequence[TopFeature]]:
        """Return the features of largest weight for each class, named from the training `texts`.

        Empty for models that have no such features.
        """
        return {}

    def export_as(self, form: str, folder: Path, calibration: Calibration) -> None:
        """Write the calibrated model in one of `formats` into `folder`; serving does not need it."""
        raise TrainingError(f"a model of kind {self.kind} cannot be written as {form}")


def distinct_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the sorted classes of the labels; raise TrainingError if there are fewer than two."""
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise TrainingError(f"training needs at least two classes; there is only {list(classes)}")
    return classes


def check_labels_are_learned(learned: Sequence[str], classes: Sequence[str]) -> None:
    """Raise TrainingError if a training part lacks one of the `classes`."""
    missing = sorted(set(classes) - set(learned))
    if missing:
        raise TrainingError(
            f"label {missing[0]!r}: all of its rows are in one fold; "
            "keep rows of rare labels in every training part (fold -1), or merge the label"
        )
