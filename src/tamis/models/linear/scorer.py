"""Serves a linear model from its weights, and explains its answers exactly.

A feature's contribution is its value times its weight. It is shared equally by the feature's
occurrences in the text, and an occurrence's share equally by the visible characters it covers; what
covers none (the text's length, its capitals and digits) belongs to the text as a whole. So characters,
whole and intercept sum to the logit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.errors import ArtifactError
from tamis.models.linear.features import FAMILIES, FeatureSettings, Located, count_features, locate_features
from tamis.models.linear.weights import LinearWeights
from tamis.models.scorer import Explanation, ModelFiles, Scorer, Scores, softmax, tokens_of

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


class _LinearModel(msgspec.Struct, forbid_unknown_fields=True):
    """What the manifest of a linear model records under `model`."""

    features: FeatureSettings


class LinearScorer(Scorer):
    """Serves a linear model from its weights."""

    def __init__(self, weights: LinearWeights):
        self._weights = weights

    @classmethod
    def load(cls, files: ModelFiles) -> Self:
        """Read the weights; raises ArtifactError if they do not fit the labels or the settings."""
        try:
            settings = msgspec.convert(files.settings, _LinearModel).features
        except msgspec.ValidationError as wrong:
            raise ArtifactError(f"manifest.json has no usable feature settings ({wrong})") from None
        _check_known(files.settings["features"])
        data = files.read("weights.safetensors")
        scorer = cls(LinearWeights.from_bytes(data, settings, n_classes=files.n_classes))
        scorer.score([""])  # builds the lookup tables, so that the first request does not wait for them
        return scorer

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities."""
        native = self._weights.native
        return softmax(self._weights.logits(texts)) if native is None else native.probabilities(texts)

    def score_utf8(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[Scores, npt.NDArray[np.bool_]] | None:
        """Return the same probabilities as `score` of the canonical texts, without making a string of any."""
        native = self._weights.native
        return None if native is None else native.probabilities_of_utf8(data, offsets)

    def unknown_shares(self, texts: Sequence[str]) -> Scores:
        """Return [texts] the share of each text's distinct features that the model does not know."""
        return self._weights.unknown_shares(texts)

    def explain(self, text: str, label: str, column: int) -> Explanation:
        """Return exactly what each token adds to the logit of `label`."""
        found = attribute(self._weights, text, column)
        tokens = tokens_of(text, found.characters)
        beside = float(found.characters.sum()) - math.fsum(token.contribution for token in tokens)
        return Explanation(
            text=text,
            label=label,
            probability=float(self.score([text])[0, column]),
            logit=found.logit,
            method="exact",
            base=found.intercept,
            tokens=tokens,
            whole=found.whole + beside,
            families=found.families,
        )


def _check_known(features: Iterable[str]) -> None:
    """Refuse a setting that this version would ignore: its answers would not be the trained model's."""
    known = {field.name for field in fields(FeatureSettings)}
    for name in features:
        if name not in known:
            raise ArtifactError(
                f"manifest.json has no usable feature settings (unknown setting {name!r}; "
                f"known are {', '.join(sorted(known))})"
            )
