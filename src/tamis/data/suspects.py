"""Examples whose label is probably wrong, by what a model that never saw them thinks.

The idea is confident learning (Northcutt, Jiang and Chuang, JAIR 2021): a class's own average
probability is the yardstick of how sure the model is of it. Knows labels and probabilities; does
not know texts or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label to look at again.

    index:       place of the example in the data set, from 0
    suggested:   the label that the model is sure of
    probability: what the model gives the suggested label
    """

    index: int
    label: str
    suggested: str
    probability: float


def find_suspects(
    labels: Sequence[str], probabilities: Probabilities, classes: Sequence[str]
) -> list[Suspect]:
    """Return the examples with a doubtful label, the most doubtful first.

    probabilities: [n, classes] by models that were not trained on the example

    Doubtful: the given label has less than half its class's average self-confidence, and another
    label reaches its own class's average.
    """
    place = {label: i for i, label in enumerate(classes)}
    given = np.fromiter((place[label] for label in labels), np.intp, len(labels))
    of_given = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
    rows_of_class = np.bincount(given, minlength=len(classes))
    confidence = np.bincount(given, of_given, minlength=len(classes)) / np.maximum(rows_of_class, 1)
    others = np.where(np.arange(len(classes)) == given[:, None], -np.inf, probabilities)
    others[(probabilities < confidence) | (rows_of_class == 0)] = -np.inf
    suggested = others.argmax(axis=1)
    of_suggested = others.max(axis=1)
    doubtful = np.flatnonzero((of_given < confidence[given] / 2) & np.isfinite(of_suggested))
    ranked = doubtful[np.argsort((of_given - of_suggested)[doubtful], kind="stable")]
    return [Suspect(int(i), labels[i], classes[suggested[i]], float(of_suggested[i])) for i in ranked]
