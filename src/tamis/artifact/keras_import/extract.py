"""Runs `hdf5` in a process with limits, and takes in what it copied.

Handles processes; independent of HDF5 and layers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from tamis.artifact.keras_import.hdf5 import REFUSED
from tamis.errors import ArtifactError, MissingExtraError

# of the clock; the process limits its own processor time to less
_TIMEOUT_SECONDS = 120

Weights = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""The arrays of each layer by their paths in the file, such as `lstm/lstm_cell/kernel`."""


@dataclass(frozen=True)
class Extracted:
    """What a Keras HDF5 file holds; the version is that of the Keras that wrote it, empty if unknown."""

    config: Any
    weights: Weights
    keras_version: str = ""


def extract(file: Path) -> Extracted:
    """Return the configuration and the weights in a Keras HDF5 file; raises ArtifactError."""
    with tempfile.TemporaryDirectory() as folder:
        _run(file, folder)
        written = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        arrays = safetensors.numpy.load((Path(folder) / "weights.safetensors").read_bytes())
    weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for name, array in arrays.items():
        # a name of a layer may contain a slash, and never a line feed
        layer, _, path = name.partition("\n")
        weights.setdefault(layer, {})[path.removesuffix(":0")] = array
    return Extracted(written["config"], weights, written["keras_version"])


def _run(file: Path, folder: str) -> None:
    # One BLAS thread: each reserves memory that would count against the limit. "::" loads no plugins.
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    # a process: HDF5 is a C library that reads untrusted bytes
    program = [sys.executable, "-m", "tamis.artifact.keras_import.hdf5", str(file), folder]
    try:
        done = subprocess.run(
            program,
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"{file}: reading it took over {_TIMEOUT_SECONDS} seconds") from None
    if done.returncode == REFUSED:
        raise ArtifactError(f"{file}: {done.stderr.strip()}")
    # the only sign of a missing extra: the import happens in the other process
    if "No module named 'h5py'" in done.stderr:
        raise MissingExtraError("reading a Keras model", "lstm")
    if done.returncode:
        raise ArtifactError(f"{file}: the process that read it ended with {done.returncode}")
