"""What each character of a text adds to a linear model's logit, exactly.

A feature's contribution is its value times its weight. It is shared equally by the feature's
occurrences in the text, and an occurrence's share equally by the visible characters it covers; what
covers none (the text's length, its capitals and digits) belongs to the text as a whole. Nothing is
lost on the way: characters, whole and intercept sum to the logit. Knows no tokens and no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.models.linear.features import FAMILIES, Located, count_features, locate_features
from tamis.models.linear.weights import LinearWeights

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """Where a logit comes from: `intercept + characters.sum() + whole` and `intercept + families` are it.

    characters: [characters of the text]
    families:   contribution of each family of features, by its name
    """

    logit: float
    intercept: float
    characters: Floats
    whole: float
    families: dict[str, float]


def attribute(weights: LinearWeights, text: str, column: int) -> Attribution:
    """Explain the logit of class `column`; with two classes, the log-odds of that class."""
    joined = ngrams.join_texts([text])
    located = locate_features(joined, weights.settings)
    shares = _occurrence_shares(weights, text, located, column)
    spans = located.spans
    visible = joined.classes != ngrams.SPACE
    before = np.concatenate([[0], np.cumsum(visible)])
    covered = before[spans.ends] - before[spans.starts]
    per_character = np.divide(shares, covered, out=np.zeros_like(shares), where=covered > 0)
    steps = np.bincount(spans.starts, per_character, minlength=joined.codes.size + 1)
    steps -= np.bincount(spans.ends, per_character, minlength=joined.codes.size + 1)
    characters = (np.cumsum(steps)[:-1] * visible)[1:-1]  # without the spaces around the text
    intercept = _sign(weights, column) * float(weights.intercept[_place(weights, column)])
    sums = np.bincount(located.families, shares, minlength=max(FAMILIES) + 1)
    return Attribution(
        logit=intercept + float(shares.sum()),
        intercept=intercept,
        characters=characters,
        whole=float(shares[covered == 0].sum()),
        families={name: float(sums[family]) for family, name in FAMILIES.items()},
    )


def _occurrence_shares(weights: LinearWeights, text: str, located: Located, column: int) -> Floats:
    """Return [occurrences] what each adds to the logit."""
    counts = count_features([text], weights.settings)
    added = weights.added(counts, _place(weights, column))
    shares: Floats = (added / counts.counts)[np.searchsorted(counts.features, located.features)]
    return _sign(weights, column) * shares


def _place(weights: LinearWeights, column: int) -> int:
    return column if weights.intercept.size > 1 else 0


def _sign(weights: LinearWeights, column: int) -> float:
    """Return -1 if the single column of two classes is the evidence for the other class."""
    return -1.0 if weights.intercept.size == 1 and column == 0 else 1.0
