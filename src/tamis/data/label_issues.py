"""Label issues: examples whose label is probably wrong, by the probabilities of a model that never saw them.

The idea is confident learning (Northcutt, Jiang and Chuang, JAIR 2021): a class's own average
probability tells how confident the model is about it. Knows labels and probabilities; does not know
texts or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MIN_PROBABILITY = 0.5
_MIN_ROWS = 10

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A label to look at again.

    index:       index of the example in the data set
    suggested:   the label that the model is confident of
    probability: the model's probability of the suggested label
    """

    index: int
    label: str
    suggested: str
    probability: float


def find_label_issues(
    labels: Sequence[str], probabilities: Probabilities, classes: Sequence[str]
) -> list[LabelIssue]:
    """Return the examples with a probably wrong label, the most doubtful first.

    probabilities: [n, classes] by models that were not trained on the example

    A label is doubtful if its probability is less than half its class's average, and another label
    has at least one half and its own class's average. Labels of fewer than ten rows are left out on
    either side: such a class has no average worth the name.
    """
    place = {label: i for i, label in enumerate(classes)}
    given = np.fromiter((place[label] for label in labels), np.intp, len(labels))
    of_given = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
    rows_of_class = np.bincount(given, minlength=len(classes))
    confidence = np.bincount(given, of_given, minlength=len(classes)) / np.maximum(rows_of_class, 1)
    others = np.where(np.arange(len(classes)) == given[:, None], -np.inf, probabilities)
    others[(probabilities < np.maximum(confidence, _MIN_PROBABILITY)) | (rows_of_class < _MIN_ROWS)] = -np.inf
    suggested = others.argmax(axis=1)
    of_suggested = others.max(axis=1)
    is_judged = np.isfinite(of_suggested) & (rows_of_class[given] >= _MIN_ROWS)
    doubtful = np.flatnonzero((of_given < confidence[given] / 2) & is_judged)
    ranked = doubtful[np.argsort((of_given - of_suggested)[doubtful], kind="stable")]
    return [LabelIssue(int(i), labels[i], classes[suggested[i]], float(of_suggested[i])) for i in ranked]
