"""A layer's settings and arrays, as Keras has them, as one of the layers that can be built.

Looks layers up by name and refuses settings that change what is computed in a way that is not
built here; never runs what a configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tamis.artifact.onnx_export.layers import (
    HARD_SIGMOID_SLOPES,
    Activate,
    Affine,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    Floats,
    GlobalPool,
    Gru,
    Layer,
    Lstm,
    Pool,
)
from tamis.errors import ArtifactError

Config = Mapping[str, Any]

# an array has a column per token: a wrong configuration must not allocate all memory
MAX_TOKENS = 100_000

_ACTIVATIONS = ("linear", "relu", "sigmoid", "softmax", "tanh", *HARD_SIGMOID_SLOPES)
_GATES = ("sigmoid", *HARD_SIGMOID_SLOPES)
_MERGES = ("concat", "sum", "ave", "mul")
_SAME_BOTH_WAYS = (
    "units",
    "use_bias",
    "activation",
    "recurrent_activation",
    "reset_after",
    "return_sequences",
)

_Arrays = Mapping[str, Floats]


def read_layer(kind: str, config: Config, arrays: Mapping[str, Floats]) -> Layer:
    """Return the layer; `arrays` are its weights by their paths in the file. Raises ArtifactError."""
    if kind not in _READERS:
        raise ArtifactError(f"it has a layer of kind {kind!r}; there are readers for {', '.join(_READERS)}")
    if kind == "Bidirectional":
        return _bidirectional(config, arrays)
    return _READERS[kind](config, _by_last_part(arrays))


def _by_last_part(arrays: _Arrays) -> _Arrays:
    """Return arrays by names such as `kernel`, without what Keras writes before it."""
    return {path.rpartition("/")[2]: array for path, array in arrays.items()}


def _embedding(config: Config, arrays: _Arrays) -> Layer:
    weights = _array(config, arrays, "embeddings", (config["input_dim"], config["output_dim"]))
    return Embedding(weights, masked=bool(config.get("mask_zero", False)))


def _lstm(config: Config, arrays: _Arrays) -> Layer:
    _require_usual(config, activation="tanh")
    units = config["units"]
    return Lstm(
        _array(config, arrays, "kernel", (None, 4 * units)),
        _array(config, arrays, "recurrent_kernel", (units, 4 * units)),
        _bias(config, arrays, (4 * units,)),
        sequences=bool(config.get("return_sequences", False)),
        gates=_one_of(config, "recurrent_activation", _GATES),
    )


def _gru(config: Config, arrays: _Arrays) -> Layer:
    _require_usual(config, activation="tanh")
    units, reset_after = config["units"], bool(config.get("reset_after", False))
    bias = _bias(config, arrays, (2, 3 * units) if reset_after else (3 * units,))
    return Gru(
        _array(config, arrays, "kernel", (None, 3 * units)),
        _array(config, arrays, "recurrent_kernel", (units, 3 * units)),
        # one layout for both kinds: the second row is the bias of the state
        bias if reset_after else np.stack([bias, np.zeros_like(bias)]),
        reset_after=reset_after,
        sequences=bool(config.get("return_sequences", False)),
        gates=_one_of(config, "recurrent_activation", _GATES),
    )


def _bidirectional(config: Config, arrays: _Arrays) -> Layer:
    inner = config["layer"]
    kind, settings = inner["class_name"], inner["config"]
    if kind not in ("LSTM", "GRU"):
        raise ArtifactError(
            f"layer {config['name']!r} goes both ways with {kind!r}; LSTM and GRU are supported"
        )
    _check_backward(config)
    forward, backward = (
        _READERS[kind]({**settings, "name": config["name"]}, _by_last_part(_of_direction(arrays, direction)))
        for direction in ("forward_", "backward_")
    )
    assert isinstance(forward, Lstm | Gru) and isinstance(backward, Lstm | Gru)
    return Bidirectional(forward, backward, _one_of(config, "merge_mode", _MERGES))


def _check_backward(config: Config) -> None:
    """Refuse a backward layer that is not the forward one reversed."""
    other = config.get("backward_layer")
    if other is None:
        return
    inner = config["layer"]
    same = [inner["config"].get(name) == other["config"].get(name) for name in _SAME_BOTH_WAYS]
    if inner["class_name"] != other["class_name"] or not all(same) or not other["config"]["go_backwards"]:
        raise ArtifactError(
            f"layer {config['name']!r} has a backward layer of another kind than its forward one"
        )


def _of_direction(arrays: _Arrays, direction: str) -> _Arrays:
    return {
        path: array
        for path, array in arrays.items()
        if any(part.startswith(direction) for part in path.split("/"))
    }


def _batch_normalization(config: Config, arrays: _Arrays) -> Layer:
    axis = config["axis"]
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if type(axis) is not int:
        raise ArtifactError(f"layer {config['name']!r}: axis={axis!r} is not supported")
    mean = _array(config, arrays, "moving_mean", (None,))
    variance = _array(config, arrays, "moving_variance", mean.shape)
    # in double precision, as one factor and one summand: rounded once
    scale = (np.maximum(variance.astype(np.float64), 0) + float(config["epsilon"])) ** -0.5
    if config.get("scale", True):
        scale = scale * _array(config, arrays, "gamma", mean.shape)
    shift = -mean * scale
    if config.get("center", True):
        shift = shift + _array(config, arrays, "beta", mean.shape)
    return Affine(scale.astype(np.float32), shift.astype(np.float32), axis)


def _activation(config: Config, arrays: _Arrays) -> Layer:
    return Activate(_one_of(config, "activation", _ACTIVATIONS))


def _conv(config: Config, arrays: _Arrays) -> Layer:
    _require_usual(config, data_format="channels_last", groups=1)
    filters = config["filters"]
    return Conv1D(
        _array(config, arrays, "kernel", (_only(config, "kernel_size"), None, filters)),
        _bias(config, arrays, (filters,)),
        stride=_only(config, "strides"),
        dilation=_only(config, "dilation_rate", 1),
        edges=_one_of(config, "padding", ("valid", "same", "causal")),
        activation=_one_of(config, "activation", _ACTIVATIONS),
    )


def _dense(config: Config, arrays: _Arrays) -> Layer:
    return Dense(
        _array(config, arrays, "kernel", (None, config["units"])),
        _bias(config, arrays, (config["units"],)),
        _one_of(config, "activation", _ACTIVATIONS),
    )


def _pool(kind: Any) -> Callable[[Config, _Arrays], Layer]:
    def read(config: Config, arrays: _Arrays) -> Layer:
        _require_usual(config, data_format="channels_last")
        size = _only(config, "pool_size")
        # Keras: without strides, windows do not overlap
        stride = _only(config, "strides", size)
        return Pool(kind, size, stride, _one_of(config, "padding", ("valid", "same")))

    return read


def _global_pool(kind: Any) -> Callable[[Config, _Arrays], Layer]:
    def read(config: Config, arrays: _Arrays) -> Layer:
        _require_usual(config, data_format="channels_last", keepdims=False)
        return GlobalPool(kind)

    return read


def _flatten(config: Config, arrays: _Arrays) -> Layer:
    _require_usual(config, data_format="channels_last")
    return Flatten()


_READERS: dict[str, Callable[[Config, _Arrays], Layer]] = {
    "Embedding": _embedding,
    "LSTM": _lstm,
    "GRU": _gru,
    "Conv1D": _conv,
    "MaxPooling1D": _pool("max"),
    "AveragePooling1D": _pool("average"),
    "GlobalMaxPooling1D": _global_pool("max"),
    "GlobalAveragePooling1D": _global_pool("average"),
    "Flatten": _flatten,
    "Dense": _dense,
    "Bidirectional": _bidirectional,
    "BatchNormalization": _batch_normalization,
    "Activation": _activation,
}


def _require_usual(config: Config, **usual: Any) -> None:
    """Refuse settings that change what a layer computes in a way that is not built here."""
    for name, value in {"go_backwards": False, "stateful": False, **usual}.items():
        # a setting that an old Keras did not have has its usual value
        if (found := config.get(name, value)) != value:
            raise ArtifactError(
                f"layer {config['name']!r}: {name}={found!r} is not supported, only {value!r}"
            )


def _one_of(config: Config, name: str, known: tuple[str, ...]) -> Any:
    if (value := config[name]) not in known:
        raise ArtifactError(f"layer {config['name']!r}: {name}={value!r} is none of {', '.join(known)}")
    return value


def _only(config: Config, name: str, default: int | None = None) -> int:
    """Return a setting that is a number, or a list of a single one."""
    value = config.get(name, default)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= MAX_TOKENS:
        raise ArtifactError(f"layer {config['name']!r}: {name}={value!r} is no size")
    return value


def _array(config: Config, arrays: _Arrays, name: str, shape: tuple[int | None, ...]) -> Floats:
    """Return an array whose sizes are those of the configuration; None means any."""
    if name not in arrays:
        raise ArtifactError(f"layer {config['name']!r} has no {name}")
    found = arrays[name].shape
    if len(found) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found, strict=True)
    ):
        raise ArtifactError(
            f"layer {config['name']!r}: {name} has shape {found}, its configuration needs {shape}"
        )
    return arrays[name]


def _bias(config: Config, arrays: _Arrays, shape: tuple[int, ...]) -> Floats:
    if not config.get("use_bias", True):
        return np.zeros(shape, np.float32)
    return _array(config, arrays, "bias", shape)
