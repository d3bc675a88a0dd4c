"""The measured model's predictions for the test part, kept beside a model that has since learned it.

They are what `tamis compare` judges such a model by on its own training file. Two bytes for each row, and
no text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.artifact import Artifact
from tamis.errors import ArtifactError

HELD_OUT_FILE = "held_out.safetensors"

Indices = npt.NDArray[np.intp]


def write_held_out(predicted: Indices, folder: Path) -> None:
    """Write [test rows] the predicted label of each, as its index among the model's labels."""
    (folder / HELD_OUT_FILE).write_bytes(safetensors.numpy.save({"predicted": predicted.astype(np.uint16)}))


def read_held_out(artifact: Artifact) -> Indices:
    """Return [test rows] the predicted labels, in the order of the test part of the model's split."""
    try:
        predicted = safetensors.numpy.load(artifact.read(HELD_OUT_FILE))["predicted"]
    except (safetensors.SafetensorError, KeyError) as broken:
        raise ArtifactError(f"{artifact.path}: {HELD_OUT_FILE} cannot be read ({broken})") from None
    if predicted.shape != (artifact.manifest.data.test_rows,):
        raise ArtifactError(f"{artifact.path}: {HELD_OUT_FILE} does not fit the test part")
    return predicted.astype(np.intp)
