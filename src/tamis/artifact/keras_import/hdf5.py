"""Copies the weights and the configuration out of a Keras HDF5 file; run as a process of its own.

    python -m tamis.artifact.keras_import.hdf5 MODEL.h5 FOLDER

It writes `config.json` and `weights.safetensors` into FOLDER. What is wrong with the file goes to
standard error as one line, with exit code 3. The file is read through h5py as plain arrays only:
links of any kind but hard ones, data kept in other files, virtual data sets, unusual filters and
absurd shapes are refused. Handles HDF5; independent of what a layer means.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REFUSED = 3
# a damaged or hostile HDF5 file can make its library allocate or loop: limits of the operating system end it
MEMORY_BYTES = 4 * 1024**3
CPU_SECONDS = 60

_MAX_ARRAY_BYTES = 1024**3
_MAX_CONFIG_CHARACTERS = 16 * 1024**2
_MAX_DEPTH = 64
"""Keras nests a chain of layers about ten deep; JSON readers differ in how much deeper they go."""

_MAX_LAYERS = 100
_MAX_WEIGHTS = 16
_MAX_NAME_CHARACTERS = 500


class UnsafeFile(Exception):
    """The file holds something that this reader does not follow or copy."""


def main() -> None:
    """Copy from the first argument to the folder in the second, within limits."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    # a crash on a hostile file must not fill the disk
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        copy(Path(sys.argv[1]), Path(sys.argv[2]))
    except UnsafeFile as refused:
        sys.exit(_refuse(str(refused)))
    except MemoryError:
        sys.exit(_refuse("it needs more memory than a model should"))
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as broken:
        sys.exit(_refuse(f"it is no HDF5 file that Keras wrote ({str(broken)[:200]})"))


def copy(file: Path, folder: Path) -> None:
    """Copy configuration and weights of `file`; raises UnsafeFile, and h5py's errors for broken files."""
    import h5py
    import safetensors.numpy

    with h5py.File(file, "r") as opened:
        config = {"config": _model_config(opened), "keras_version": _keras_version(opened)}
        layers = _member(opened, "model_weights")
        if not isinstance(layers, h5py.Group):
            raise UnsafeFile("'model_weights' is no group")
        weights = {
            f"{name}\n{weight}": array
            for name in _names(layers, "layer_names", max_names=_MAX_LAYERS)
            for weight, array in _weights_of(layers, name)
        }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(weights))


def _model_config(opened: Any) -> Any:
    if "model_config" not in opened.attrs:
        raise UnsafeFile("it holds weights without the network's configuration; save the whole model")
    value = opened.attrs["model_config"]
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    if len(text) > _MAX_CONFIG_CHARACTERS:
        raise UnsafeFile("its configuration is absurdly long")
    try:
        config = json.loads(text)
    # deeper than Python reads: reported as too deep below
    except RecursionError:
        config = None
    if config is None or _depth(config) > _MAX_DEPTH:
        raise UnsafeFile(f"its configuration is nested more than {_MAX_DEPTH} deep")
    return config


def _keras_version(opened: Any) -> str:
    value = opened.attrs.get("keras_version", "")
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _MAX_NAME_CHARACTERS else ""


def _depth(value: Any) -> int:
    """Return how many lists and objects are inside one another in a JSON value."""
    depth, level = 0, [value]
    # level by level and not recursive: the depth is what is being bounded
    while level := [inner for outer in level for inner in _members(outer)]:
        depth += 1
    return depth


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _weights_of(layers: Any, layer: str) -> list[tuple[str, Any]]:
    group = _member(layers, layer)
    if not hasattr(group, "keys"):
        raise UnsafeFile(f"layer {layer!r} is no group")
    return [
        (weight, _array(group, layer, weight))
        for weight in _names(group, "weight_names", max_names=_MAX_WEIGHTS)
    ]


def _array(group: Any, layer: str, path: str) -> Any:
    import h5py
    import numpy as np

    found = group
    for part in path.split("/"):
        found = _member(found, part)
    where = f"{layer}: {path}"
    if not isinstance(found, h5py.Dataset):
        raise UnsafeFile(f"{where} is no array")
    if found.is_virtual:
        raise UnsafeFile(f"{where} is a virtual data set, which reads other files")
    if found.external:
        raise UnsafeFile(f"{where} keeps its numbers in another file")
    if found.dtype.kind != "f":
        raise UnsafeFile(f"{where} holds {found.dtype}, not floating-point numbers")
    if found.shape is None or not 1 <= len(found.shape) <= 3 or 0 in found.shape:
        raise UnsafeFile(f"{where} has a shape that no layer has: {found.shape}")
    # the declared shape, before a byte is read: a small file can declare any
    if found.size * 4 > _MAX_ARRAY_BYTES:
        raise UnsafeFile(f"{where} has an absurd shape: {found.shape}")
    plist = found.id.get_create_plist()
    # deflate, shuffle, fletcher32: the filters of the HDF5 library itself
    if any(plist.get_filter(index)[0] not in (1, 2, 3) for index in range(plist.get_nfilters())):
        raise UnsafeFile(f"{where} is packed by a filter other than gzip")
    array = np.ascontiguousarray(found[()], np.float32)
    if not np.isfinite(array).all():
        raise UnsafeFile(f"{where} holds values that are not finite numbers")
    return array


def _member(group: Any, name: str) -> Any:
    """Return what a hard link of `group` leads to; other links may lead out of the file."""
    import h5py

    if not name or name == "." or "/" in name or not isinstance(group, h5py.Group):
        raise UnsafeFile(f"{name[:_MAX_NAME_CHARACTERS]!r} is no plain name in a group")
    link = group.get(name, getlink=True)
    if link is None:
        raise UnsafeFile(f"{name[:_MAX_NAME_CHARACTERS]!r} is missing")
    if not isinstance(link, h5py.HardLink):
        raise UnsafeFile(
            f"{name[:_MAX_NAME_CHARACTERS]!r} is an {type(link).__name__}; only plain members are read"
        )
    return group[name]


def _names(group: Any, attribute: str, *, max_names: int) -> list[str]:
    if attribute not in group.attrs:
        raise UnsafeFile(f"{attribute!r} is missing")
    values = group.attrs[attribute]
    if len(values) > max_names:
        raise UnsafeFile(f"{attribute!r} lists {len(values)} names")
    names = [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
    if any(len(name) > _MAX_NAME_CHARACTERS or "\n" in name for name in names):
        raise UnsafeFile(f"{attribute!r} has a name that is none")
    return names


def _refuse(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)  # noqa: T201 - the parent reads it
    return REFUSED


if __name__ == "__main__":
    main()
