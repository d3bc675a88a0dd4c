"""The seam between a model's files and its answers: one scorer for each kind of model.

Knows artifacts and arrays; does not know labels' meaning, caches or HTTP.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import msgspec
import numpy as np
import numpy.typing as npt

from tamis.artifact import Artifact
from tamis.errors import ArtifactError
from tamis.inference.explanation import Explanation, explain_by_occlusion, tokens_of
from tamis.models.base import softmax
from tamis.models.linear.attribution import attribute
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.weights import LinearWeights

Scores = npt.NDArray[np.float64]


class Scorer(ABC):
    """Turns canonical texts into probabilities; safe to call from several threads."""

    is_heavy: ClassVar[bool] = False
    """Whether a single text takes so long that an event loop should leave it to another thread."""

    @abstractmethod
    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities, rows summing to 1; the same alone or in a batch."""

    def explain(self, text: str, label: str, column: int) -> Explanation:
        """Say where the logit of `label`, in `column`, comes from; by occlusion unless overridden."""
        return explain_by_occlusion(self.score, text, label, column)


class LinearScorer(Scorer):
    """Serves a linear model from its weights."""

    def __init__(self, weights: LinearWeights):
        self._weights = weights

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Read the weights of a verified artifact; raises ArtifactError where they do not fit its labels."""
        manifest = artifact.manifest
        try:
            settings = msgspec.convert(manifest.model["features"], FeatureSettings)
        except (KeyError, msgspec.ValidationError) as wrong:
            raise ArtifactError(
                f"{artifact.path}: manifest.json has no usable feature settings ({wrong})"
            ) from None
        data = artifact.read("weights.safetensors")
        return cls(LinearWeights.from_bytes(data, settings, n_classes=len(manifest.labels)))

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities."""
        return softmax(self._weights.logits(texts))

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


class MockScorer(Scorer):
    """Answers from a digest of the text: for working on an application before there is a model."""

    def __init__(self, n_classes: int):
        self._n_classes = n_classes

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities that depend on the text and mean nothing."""
        digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32) for text in texts]
        seeds = [np.frombuffer(digest.digest(), np.uint32).sum(dtype=np.uint32) for digest in digests]
        logits = [np.random.default_rng(int(seed)).normal(0, 2, self._n_classes) for seed in seeds]
        return softmax(np.reshape(logits, (len(texts), self._n_classes)))


def _load_onnx(artifact: Artifact) -> Scorer:
    from tamis.inference.onnx import OnnxScorer

    return OnnxScorer.load(artifact)


SCORERS: dict[str, Callable[[Artifact], Scorer]] = {
    "linear": LinearScorer.load,
    "lstm": _load_onnx,
    "keras": _load_onnx,
}
