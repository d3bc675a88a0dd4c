"""Keras on JAX: the only module that imports Keras, because importing it chooses the backend.

A backend that the caller chose is not changed; any but JAX is refused.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tamis.errors import TrainingError

# before the import: Keras reads it once
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras

__all__ = ["jax", "keras", "learning_devices", "prepare_keras"]

_config: Any = jax.config  # its attributes have no types

_N_CPU_DEVICES = 2
"""A constant, because the trained weights must not depend on the machine. Each computes half of every batch;
a second core within the products of so few texts gained a sixth only (an epoch of 2.05 s, now 1.6 s)."""

if _config.jax_num_cpu_devices < 0:  # not configured by the caller
    with suppress(RuntimeError):  # JAX was initialized before, with its own number
        _config.update("jax_num_cpu_devices", _N_CPU_DEVICES)


def prepare_keras() -> None:
    """Check the backend, and cache what JAX compiles in the user's cache folder unless configured otherwise.

    Raises TrainingError if the process already runs Keras on another backend.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise TrainingError(
            f"this model learns with Keras on JAX, but Keras runs on {backend!r}: set KERAS_BACKEND=jax"
        )
    # a first training compiles for some seconds; from the cache it is loaded in a fraction of one
    if _config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        _config.update("jax_compilation_cache_dir", str(cache / "tamis" / "jax"))
        # JAX would leave out programs that compile in under a second: there are several of them
        _config.update("jax_persistent_cache_min_compile_time_secs", 0)


def learning_devices() -> list[Any]:
    """Return the devices that share each batch: two CPU devices, or one accelerator."""
    devices = jax.devices()
    return devices[: _N_CPU_DEVICES if devices[0].platform == "cpu" else 1]
