"""Checkpoints of a fit: one file, replaced atomically, so that a killed process loses one epoch at most.

It has no code in it: safetensors, with JSON in the header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.errors import TrainingError

Arrays = Mapping[str, npt.NDArray[Any]]

_LAYOUT = "3"
"""Changes with the contents, so that a checkpoint of another version is not resumed."""


def write_checkpoint(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Replace the file by one with these arrays and facts, which JSON can represent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with unfinished.open("wb") as file:
        file.write(safetensors.numpy.save(whole, {"layout": _LAYOUT, "facts": json.dumps(facts)}))
        file.flush()
        os.fsync(file.fileno())  # a name that leads to a half-written file would be worse than an old one
    unfinished.replace(path)


def read_checkpoint(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
    """Return arrays and facts; None if there is no such file. Raises TrainingError for an unusable one."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            if file.metadata()["layout"] != _LAYOUT:
                raise ValueError("of another layout")
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no dict
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        raise TrainingError(f"{path}: cannot be read; remove it, and training starts afresh") from None
