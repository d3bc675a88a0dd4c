"""Keras on JAX: the one place that imports Keras, because its backend is chosen at that moment.

A caller's own choice of backend stays as it is, and is refused where it is another one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tamis.errors import TrainingError

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras

__all__ = ["jax", "keras", "prepare_keras"]


def prepare_keras() -> None:
    """Check the backend, and keep what JAX compiles in the user's cache folder unless that is arranged.

    Raises TrainingError where the process already runs Keras on another backend.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise TrainingError(
            f"this model learns with Keras on JAX, but Keras runs on {backend!r}: set KERAS_BACKEND=jax"
        )
    config: Any = jax.config  # its attributes have no types
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(_cache_folder()))
        config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tamis" / "jax"
