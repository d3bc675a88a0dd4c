"""The mistakes that a model was surest of: where labels are wrong, or where it has learned nonsense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.types import Dataset


@dataclass(frozen=True, slots=True)
class Mistake:
    """A text whose most probable label is not its own; `row` is that of its file."""

    row: int
    text: str
    label: str
    predicted: str
    probability: float
    source: str | None


def surest_mistakes(
    data: Dataset, probabilities: npt.NDArray[np.float64], classes: Sequence[str], *, most: int = 100
) -> tuple[Mistake, ...]:
    """Return the mistakes in [rows, classes] probabilities, the most confident first."""
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(np.asarray(classes)[predicted] != np.asarray(data.labels))
    ranked = wrong[np.argsort(-confidence[wrong], kind="stable")][:most].tolist()
    return tuple(
        Mistake(
            row=data.rows[i],
            text=data.texts[i],
            label=data.labels[i],
            predicted=classes[int(predicted[i])],
            probability=float(confidence[i]),
            source=data.sources[i] if data.sources is not None else None,
        )
        for i in ranked
    )
