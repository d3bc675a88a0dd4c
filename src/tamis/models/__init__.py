"""What a server loads: the scorers, by kind of model, that compute probabilities from a model's files.

They need numpy, the native library and ONNX Runtime only; `tamis.training.trainers` trains these models.
"""

from __future__ import annotations

from collections.abc import Callable

from tamis.errors import ArtifactError
from tamis.models.linear.scorer import LinearScorer
from tamis.models.network.scorer import OnnxScorer
from tamis.models.scorer import ModelFiles, Scorer

# a network needs one scorer, whether Tamis trained it or imported it: both are served from an ONNX graph
SCORERS: dict[str, Callable[[ModelFiles], Scorer]] = {
    "linear": LinearScorer.load,
    "lstm": OnnxScorer.load,
    "keras": OnnxScorer.load,
}


def load_scorer(kind: str, files: ModelFiles) -> Scorer:
    """Load the scorer of a model of this kind; raises ArtifactError for an unknown kind or unusable files."""
    if kind not in SCORERS:
        raise ArtifactError(f"no scorer for models of kind {kind!r}")
    return SCORERS[kind](files)
