"""Serves a linear model from its weights, and says exactly where its answers come from.

Knows artifacts and arrays; does not know labels' meaning, caches or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Self

import msgspec

from tamis.artifact import Artifact
from tamis.errors import ArtifactError
from tamis.inference.explanation import Explanation, tokens_of
from tamis.inference.scorer import Scorer, Scores
from tamis.models.base import softmax
from tamis.models.linear.attribution import attribute
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.weights import LinearWeights


class _LinearModel(msgspec.Struct, forbid_unknown_fields=True):
    """What the manifest of a linear model says under `model`."""

    features: FeatureSettings


class LinearScorer(Scorer):
    """Serves a linear model from its weights."""

    def __init__(self, weights: LinearWeights):
        self._weights = weights

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Read the weights of a verified artifact; raises ArtifactError where they do not fit its labels."""
        manifest = artifact.manifest
        try:
            settings = msgspec.convert(manifest.model, _LinearModel).features
        except msgspec.ValidationError as wrong:
            raise ArtifactError(
                f"{artifact.path}: manifest.json has no usable feature settings ({wrong})"
            ) from None
        _check_known(manifest.model["features"], artifact)
        data = artifact.read("weights.safetensors")
        scorer = cls(LinearWeights.from_bytes(data, settings, n_classes=len(manifest.labels)))
        scorer.score([""])  # makes the tables that the first text would have to wait for
        return scorer

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities."""
        native = self._weights.native
        return softmax(self._weights.logits(texts)) if native is None else native.probabilities(texts)

    def explain(self, text: str, label: str, column: int) -> Explanation:
        """Say exactly what each token adds to the logit of `label`."""
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


def _check_known(features: Iterable[str], artifact: Artifact) -> None:
    """Refuse a setting that this version would ignore: its answers would not be the trained model's."""
    known = {field.name for field in fields(FeatureSettings)}
    for name in features:
        if name not in known:
            raise ArtifactError(
                f"{artifact.path}: manifest.json has no usable feature settings (unknown setting {name!r}; "
                f"known are {', '.join(sorted(known))})"
            )
