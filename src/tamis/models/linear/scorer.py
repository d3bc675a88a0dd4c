"""Serves a linear model from its weights, and explains its answers exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from tamis.errors import ArtifactError
from tamis.models.explanation import Explanation, tokens_of
from tamis.models.linear.attribution import attribute
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.weights import LinearWeights
from tamis.models.scorer import ModelFiles, Scorer, Scores, softmax


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
