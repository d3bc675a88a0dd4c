"""Serves a linear model from its weights, and explains its logits exactly.

A feature's contribution is its value times its weight. It is divided equally among the feature's
occurrences in the text, and an occurrence's share among the visible characters that it covers; what
covers none (the text's length, its capitals and digits) belongs to the text as a whole:

    features ──► occurrences ──► characters ──► tokens
                      └────────► whole            logit = intercept + Σ characters + whole
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
from tamis.models.linear.features import FAMILIES, FeatureSettings, count_features, locate_features
from tamis.models.linear.weights import LinearWeights
from tamis.models.scorer import Explanation, ModelFiles, Scorer, Scores, softmax, tokens_of


@dataclass(frozen=True)
class Attribution:
    """Where a logit comes from: `intercept + characters.sum() + whole` and `intercept + families` are it.

    characters: [characters of the text]
    families:   contribution of each family of features, by its name
    """

    logit: float
    intercept: float
    characters: Scores
    whole: float
    families: dict[str, float]


def attribute(weights: LinearWeights, text: str, column: int) -> Attribution:
    """Explain the logit of class `column`; with two classes, the log-odds of that class."""
    # of two classes the single column is the evidence for the second: its negative is that for the first
    index, sign = (column, 1.0) if weights.intercept.size > 1 else (0, 2.0 * column - 1)
    joined = ngrams.join_texts([text])
    located = locate_features(joined, weights.settings)
    counts = count_features([text], weights.settings)
    per_occurrence = weights.added(counts, index) / counts.counts
    shares = sign * per_occurrence[np.searchsorted(counts.features, located.features)]
    spans = located.spans
    visible = joined.classes != ngrams.SPACE
    before = np.concatenate([[0], np.cumsum(visible)])
    covered = before[spans.ends] - before[spans.starts]
    # blanks get nothing: they are the edges of n-grams, and no token has them
    per_character = np.divide(shares, covered, out=np.zeros_like(shares), where=covered > 0)
    # added at a span's start and taken away at its end: one running sum instead of a loop over spans
    steps = np.bincount(spans.starts, per_character, minlength=joined.codes.size + 1)
    steps -= np.bincount(spans.ends, per_character, minlength=joined.codes.size + 1)
    characters = (np.cumsum(steps)[:-1] * visible)[1:-1]  # without the spaces around the text
    intercept = sign * float(weights.intercept[index])
    sums = np.bincount(located.families, shares, minlength=max(FAMILIES) + 1)
    return Attribution(
        logit=intercept + float(shares.sum()),
        intercept=intercept,
        characters=characters,
        whole=float(shares[covered == 0].sum()),
        families={name: float(sums[family]) for family, name in FAMILIES.items()},
    )


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
        # not logits and then softmax: numpy's five calls would cost a lone text more than its features
        return softmax(self._weights.logits(texts)) if native is None else native.probabilities(texts)

    def score_utf8(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[Scores, npt.NDArray[np.bool_]] | None:
        """Return the same probabilities as `score` of the canonical texts, without making strings."""
        native = self._weights.native
        return None if native is None else native.probabilities_of_utf8(data, offsets)

    def unknown_shares(self, texts: Sequence[str]) -> Scores:
        """Return [texts] the share of each text's distinct features that the model does not know."""
        return self._weights.unknown_shares(texts)

    def explain(self, text: str, label: str, column: int) -> Explanation:
        """Return exactly what each token adds to the logit of `label`."""
        found = attribute(self._weights, text, column)
        tokens = tokens_of(text, found.characters)
        # visible characters outside of tokens, where `\S` and the features' classes of characters disagree
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
    """Refuse a setting that this version would ignore: its predictions would not be the trained model's."""
    known = {field.name for field in fields(FeatureSettings)}
    for name in features:
        if name not in known:
            raise ArtifactError(
                f"manifest.json has no usable feature settings (unknown setting {name!r}; "
                f"known are {', '.join(sorted(known))})"
            )
