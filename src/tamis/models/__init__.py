"""What a server loads: models' files in memory, and the scorers that answer with them, by kind of model.

Numpy, the native library and ONNX Runtime only; what trains these models is `tamis.training.trainers`.
"""

from __future__ import annotations

from collections.abc import Callable

from tamis.errors import ArtifactError
from tamis.models.linear.scorer import LinearScorer
from tamis.models.network.scorer import OnnxScorer
from tamis.models.scorer import ModelFiles, Scorer

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
