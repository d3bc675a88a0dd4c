"""The seam of everything that can be trained.

A classifier gives *logits*, not probabilities: `Calibration` turns them into probabilities once it
has been fitted on texts that the model had not seen, and `export` folds it into what is saved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.records import Notice, Progress, no_notice, no_progress

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


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Return [texts, classes] probabilities that sum to 1 in every row."""
    # ufuncs in place and no methods, which look at their arguments first: for one text that is half the time
    result: npt.NDArray[np.float64] = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    np.exp(result, out=result)
    result /= np.add.reduce(result, axis=1, keepdims=True)
    return result


@dataclass(frozen=True, slots=True)
class TellingFeature:
    """A feature that speaks for a class: its kind, the piece of text that it stands for, its weight."""

    family: str
    name: str
    weight: float


class TrainableClassifier(ABC):
    """A model that learns from texts. `__init__` only stores hyper-parameters.

    Learned attributes end in an underscore and exist after `fit`. Texts are canonical
    (`tamis.text.canonical`), in training and afterwards.
    """

    kind: ClassVar[str]
    """Names the scorer that serves what `export` writes."""

    libraries: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide what is learned; the manifest records them."""

    formats: ClassVar[tuple[str, ...]] = ()
    """What `export_as` can write for users of other libraries."""

    slow: ClassVar[bool] = False
    """Whether fitting takes so long that one held-out part stands for a whole cross-validation."""

    classes_: tuple[str, ...]
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
    ) -> Self:
        """Learn from `texts` and `labels` of equal length with at least two classes.

        Raises TrainingError where nothing can be learned. The same input and settings give the
        same model, bit for bit, whatever the number of threads.
        """

    @abstractmethod
    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits; a text's own do not depend on the others."""

    def summary(self) -> str:
        """Return what the trained model is made of, one part a line; nothing by default."""
        return ""

    @abstractmethod
    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write what the scorer needs into `folder`; return what the manifest must say about it."""

    def telling_features(self, texts: Sequence[str], *, most: int) -> Mapping[str, Sequence[TellingFeature]]:
        """Return for each class the features that speak most for it, named from the training `texts`.

        Empty for models that have no such features.
        """
        return {}

    def export_as(self, form: str, folder: Path, calibration: Calibration) -> None:
        """Write the calibrated model in one of `formats` into `folder`; serving does not need it."""
        raise TrainingError(f"a model of kind {self.kind} cannot be written as {form}")
