"""A Keras configuration and its arrays as a network: known layers with known settings, nothing else.

Knows Keras's names; does not know files, and never runs what a configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tamis.artifact.keras_import.extract import Weights
from tamis.errors import ArtifactError
from tamis.models.onnx_graph.layers import (
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    Floats,
    GlobalPool,
    Gru,
    Layer,
    Lstm,
    Network,
    Pool,
)

_SILENT = {"InputLayer", "SpatialDropout1D", "Dropout"}  # nothing is dropped when answering
_ACTIVATIONS = ("linear", "relu", "sigmoid", "softmax", "tanh")
_MOST_TOKENS = 100_000

_Config = Mapping[str, Any]
_Arrays = Mapping[str, Floats]


def network_of(config: Any, weights: Weights, *, max_tokens: int) -> Network:
    """Return the network of a Sequential model; raises ArtifactError that names what is not supported."""
    if not 1 <= max_tokens <= _MOST_TOKENS:
        raise ArtifactError(f"max_seq_length is {max_tokens}; it must be 1 to {_MOST_TOKENS:,}")
    try:
        first, *rest = [
            _layer(name, settings, weights) for name, settings in _layers(config) if name not in _SILENT
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise ArtifactError(f"its configuration is not one that Keras writes ({wrong!r})") from None
    if not isinstance(first, Embedding):
        raise ArtifactError("its first layer must be an Embedding")
    network = Network(first, tuple(rest), max_tokens)
    _check_order(network)
    _check_sizes(network)
    return network


def _layers(config: Any) -> list[tuple[str, _Config]]:
    kind = config["class_name"]
    if kind != "Sequential":
        raise ArtifactError(f"it is a {kind!r} model; only Sequential ones can be imported")
    inner = config["config"]
    layers = inner if isinstance(inner, list) else inner["layers"]  # a list before Keras 2.2.3
    return [(str(layer["class_name"]), layer["config"]) for layer in layers]


def _layer(kind: str, config: _Config, weights: Weights) -> Layer:
    if kind not in _READERS:
        raise ArtifactError(f"it has a layer of kind {kind!r}; there are readers for {', '.join(_READERS)}")
    return _READERS[kind](config, weights.get(config["name"], {}))


def _embedding(config: _Config, arrays: _Arrays) -> Layer:
    weights = _array(config, arrays, "embeddings", (config["input_dim"], config["output_dim"]))
    return Embedding(weights, masked=bool(config.get("mask_zero", False)))


def _lstm(config: _Config, arrays: _Arrays) -> Layer:
    _require_usual(config, activation="tanh", recurrent_activation="sigmoid")
    units = config["units"]
    return Lstm(
        _array(config, arrays, "kernel", (None, 4 * units)),
        _array(config, arrays, "recurrent_kernel", (units, 4 * units)),
        _bias(config, arrays, (4 * units,)),
        sequences=bool(config.get("return_sequences", False)),
    )


def _gru(config: _Config, arrays: _Arrays) -> Layer:
    _require_usual(config, activation="tanh", recurrent_activation="sigmoid")
    units, reset_after = config["units"], bool(config.get("reset_after", False))
    bias = _bias(config, arrays, (2, 3 * units) if reset_after else (3 * units,))
    return Gru(
        _array(config, arrays, "kernel", (None, 3 * units)),
        _array(config, arrays, "recurrent_kernel", (units, 3 * units)),
        bias if reset_after else np.stack([bias, np.zeros_like(bias)]),
        reset_after=reset_after,
        sequences=bool(config.get("return_sequences", False)),
    )


def _conv(config: _Config, arrays: _Arrays) -> Layer:
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


def _dense(config: _Config, arrays: _Arrays) -> Layer:
    return Dense(
        _array(config, arrays, "kernel", (None, config["units"])),
        _bias(config, arrays, (config["units"],)),
        _one_of(config, "activation", _ACTIVATIONS),
    )


def _pool(kind: Any) -> Callable[[_Config, _Arrays], Layer]:
    def read(config: _Config, arrays: _Arrays) -> Layer:
        _require_usual(config, data_format="channels_last")
        size = _only(config, "pool_size")
        stride = _only(config, "strides", size)
        return Pool(kind, size, stride, _one_of(config, "padding", ("valid", "same")))

    return read


def _global_pool(kind: Any) -> Callable[[_Config, _Arrays], Layer]:
    def read(config: _Config, arrays: _Arrays) -> Layer:
        _require_usual(config, data_format="channels_last", keepdims=False)
        return GlobalPool(kind)

    return read


def _flatten(config: _Config, arrays: _Arrays) -> Layer:
    _require_usual(config, data_format="channels_last")
    return Flatten()


_READERS: dict[str, Callable[[_Config, _Arrays], Layer]] = {
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
}


def _require_usual(config: _Config, **usual: Any) -> None:
    """Refuse settings that change what a layer computes in a way that is not built here."""
    for name, value in {"go_backwards": False, "stateful": False, **usual}.items():
        if (found := config.get(name, value)) != value:
            raise ArtifactError(
                f"layer {config['name']!r}: {name}={found!r} is not supported, only {value!r}"
            )


def _one_of(config: _Config, name: str, known: tuple[str, ...]) -> Any:
    if (value := config[name]) not in known:
        raise ArtifactError(f"layer {config['name']!r}: {name}={value!r} is none of {', '.join(known)}")
    return value


def _only(config: _Config, name: str, default: int | None = None) -> int:
    """Return a setting that is a number, or a list of a single one."""
    value = config.get(name, default)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= _MOST_TOKENS:
        raise ArtifactError(f"layer {config['name']!r}: {name}={value!r} is no size")
    return value


def _array(config: _Config, arrays: _Arrays, name: str, shape: tuple[int | None, ...]) -> Floats:
    """Return an array whose sizes are those of the configuration; None stands for any."""
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


def _bias(config: _Config, arrays: _Arrays, shape: tuple[int, ...]) -> Floats:
    if not config.get("use_bias", True):
        return np.zeros(shape, np.float32)
    return _array(config, arrays, "bias", shape)


def _check_order(network: Network) -> None:
    """Refuse layers in an order that makes no classifier, or whose masking is not built here."""
    last = network.layers[-1] if network.layers else None
    if not isinstance(last, Dense) or last.activation not in ("softmax", "sigmoid"):
        raise ArtifactError("its last layer must be Dense with softmax, or one unit with sigmoid")
    if (last.bias.size == 1) != (last.activation == "sigmoid"):
        raise ArtifactError(f"its last layer gives {last.bias.size} values through {last.activation}")
    if network.embedding.masked and not network.runs_own_steps:
        raise ArtifactError("mask_zero is supported before LSTM and GRU only")


def _check_sizes(network: Network) -> None:
    """Follow the shape of a text through the layers; refuse what does not fit together."""
    steps: int | None = network.max_tokens
    channels = int(network.embedding.weights.shape[1])
    for layer in network.layers:
        steps, channels = _after(layer, steps, channels)
    if steps is not None:
        raise ArtifactError("it answers for every step of a text; a pooling layer or Flatten is missing")


def _after(layer: Layer, steps: int | None, channels: int) -> tuple[int | None, int]:
    """Return how many steps and channels a layer leaves; None is a text without steps."""
    kind = type(layer).__name__
    if isinstance(layer, Embedding):
        raise ArtifactError("it has two Embedding layers")
    if steps is None and not isinstance(layer, Dense):
        raise ArtifactError(f"{kind} stands where there are no steps any more")
    inputs = {Conv1D: 1, Dense: 0, Lstm: 0, Gru: 0}.get(type(layer))
    if inputs is not None and layer.kernel.shape[inputs] != channels:  # type: ignore[union-attr]
        raise ArtifactError(f"{kind} does not fit the {channels} channels before it")
    match layer:
        case Dense():
            return steps, layer.bias.size
        case Lstm() | Gru():
            return (steps if layer.sequences else None), layer.units
        case GlobalPool():
            return None, channels
        case Flatten():
            return None, (steps or 0) * channels
        case Conv1D():
            reach = (layer.kernel.shape[0] - 1) * layer.dilation + 1
            return _slid(steps or 0, reach, layer.stride, layer.edges), layer.bias.size
        case Pool():
            return _slid(steps or 0, layer.size, layer.stride, layer.edges), channels


def _slid(steps: int, reach: int, stride: int, edges: str) -> int:
    left = -(-(steps - reach + 1) // stride) if edges == "valid" else -(-steps // stride)
    if left < 1:
        raise ArtifactError(f"a window of {reach} steps does not fit into {steps}")
    return left
