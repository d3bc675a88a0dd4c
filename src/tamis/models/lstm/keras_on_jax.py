"""Keras on JAX: the one place that imports Keras, because its backend is chosen at that moment.

A caller's own choice of backend stays as it is, and is refused where it is another one.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from tamis.errors import TrainingError

os.environ.setdefault("KERAS_BACKEND", "jax")


class _AtFirstUse(MetaPathFinder):
    """Finds Keras's wrappers for scikit-learn, and has them loaded by whoever first looks into them.

    They are all for which Keras imports scikit-learn, and scikit-learn is a third of its import.
    """

    _names = frozenset({"keras.wrappers", "keras._tf_keras.keras.wrappers"})

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def _quicker_imports() -> Iterator[None]:
    # what is imported lives as long as the process: to look it through for garbage is an eighth of the time
    collects, finder = gc.isenabled(), _AtFirstUse()
    gc.disable()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if collects:
            gc.enable()


with _quicker_imports():
    import jax
    import keras

__all__ = ["jax", "keras", "learning_devices", "prepare_keras"]

_config: Any = jax.config  # its attributes have no types

_PROCESSORS = 2
"""As many whatever the machine has: what is learned must not depend on where."""

if _config.jax_num_cpu_devices < 0:  # nobody has chosen
    with suppress(RuntimeError):  # JAX was at work in this process before us, with what it had found
        _config.update("jax_num_cpu_devices", _PROCESSORS)


def prepare_keras() -> None:
    """Check the backend, and keep what JAX compiles in the user's cache folder unless that is arranged.

    Raises TrainingError where the process already runs Keras on another backend.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise TrainingError(
            f"this model learns with Keras on JAX, but Keras runs on {backend!r}: set KERAS_BACKEND=jax"
        )
    if _config.jax_compilation_cache_dir is None:
        _config.update("jax_compilation_cache_dir", str(_cache_folder()))
        _config.update("jax_persistent_cache_min_compile_time_secs", 0)


def learning_devices() -> list[Any]:
    """Return the devices that share each batch: two processors, or one accelerator."""
    devices = jax.devices()
    return devices[: _PROCESSORS if devices[0].platform == "cpu" else 1]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tamis" / "jax"
