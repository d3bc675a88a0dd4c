"""A Keras configuration and its arrays as a network: known layers in an order that makes a classifier.

Handles what fits after what; independent of Keras's names of settings, or files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tamis.artifact.keras_import.extract import Extracted
from tamis.artifact.keras_import.layers import MAX_TOKENS, Config, read_layer
from tamis.artifact.onnx_export.layers import (
    Activate,
    Affine,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    GlobalPool,
    Gru,
    Layer,
    Lstm,
    Network,
    Pool,
    Side,
)
from tamis.errors import ArtifactError

_SILENT = {"InputLayer", "SpatialDropout1D", "Dropout"}  # nothing is dropped when predicting


_FUNCTIONAL = ("Functional", "Model")  # its name before Keras 2.4
_TENSOR = "__keras_tensor__"


def network_of(extracted: Extracted, *, max_tokens: int, padding: Side = "pre") -> Network:
    """Return the network of a chain of layers; raises ArtifactError that names what is not supported."""
    if not 1 <= max_tokens <= MAX_TOKENS:
        raise ArtifactError(f"max_seq_length is {max_tokens}; it must be 1 to {MAX_TOKENS:,}")
    try:
        layers = [
            read_layer(kind, _of_version(settings, extracted), extracted.weights.get(settings["name"], {}))
            for kind, settings in layers_in_order(extracted.config)
            if kind not in _SILENT
        ]
        first, *rest = _folded(layers)
    # the configuration is untrusted JSON: any of its values may have another type
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as wrong:
        raise ArtifactError(f"its configuration is not one that Keras writes ({wrong!r:.200})") from None
    if not isinstance(first, Embedding):
        raise ArtifactError("its first layer must be an Embedding")
    network = Network(first, tuple(rest), max_tokens, padding)
    _check_order(network)
    _check_sizes(network)
    return network


def _of_version(settings: Any, extracted: Extracted) -> Config:
    """Return settings in which the hard sigmoid has the name of the Keras that wrote the file."""
    # Keras 3 changed the slope of the hard sigmoid and kept its name
    if not extracted.keras_version.startswith("3"):
        return settings  # type: ignore[no-any-return]
    return {name: _renamed(value) for name, value in settings.items()}


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(inner) for name, inner in value.items()}
    return "hard_sigmoid_keras_3" if value == "hard_sigmoid" else value


def _folded(layers: list[Layer]) -> list[Layer]:
    """Return the layers with normalisations and activations as part of the layer before, if they can be."""
    folded: list[Layer] = []
    for layer in layers:
        merged = _merged(folded[-1], layer) if folded else None
        if merged is None:
            folded.append(layer)
        else:
            folded[-1] = merged
    return folded


def _merged(before: Layer, layer: Layer) -> Layer | None:
    """Return one layer that does what the two do; None if there is none."""
    match before, layer:
        case Dense() | Conv1D(), Activate() if before.activation == "linear":
            return replace(before, activation=layer.activation)
        case Dense(), Affine() if before.activation == "linear" and layer.scale.size == before.bias.size:
            kernel = (before.kernel * layer.scale).astype(np.float32)
            return replace(before, kernel=kernel, bias=before.bias * layer.scale + layer.shift)
        case Embedding(), Affine() if layer.scale.size == before.weights.shape[1] and layer.axis in (-1, 2):
            return replace(before, weights=before.weights * layer.scale + layer.shift)
    return None


def _check_order(network: Network) -> None:
    """Refuse layers in an order that makes no classifier, or whose masking is not built here."""
    last = network.layers[-1] if network.layers else None
    if not isinstance(last, Dense) or last.activation not in ("softmax", "sigmoid"):
        raise ArtifactError("its last layer must be Dense with softmax, or one unit with sigmoid")
    # softmax over one unit is always 1, sigmoids over several do not add up to 1
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
    _check_fits(layer, steps, channels)
    match layer:
        case Dense():
            return steps, layer.bias.size
        case Lstm() | Gru() | Bidirectional():
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
    return steps, channels  # Affine and Activate


def _check_fits(layer: Layer, steps: int | None, channels: int) -> None:
    kind = type(layer).__name__
    if isinstance(layer, Embedding):
        raise ArtifactError("it has two Embedding layers")
    if steps is None and not isinstance(layer, Dense | Affine | Activate):
        raise ArtifactError(f"{kind} follows a layer that removed the time steps")
    if isinstance(layer, Affine) and layer.axis not in (-1, 1 if steps is None else 2):
        raise ArtifactError(f"BatchNormalization over axis {layer.axis} is not supported, only the last")
    if _inputs(layer) not in (None, channels):
        raise ArtifactError(f"{kind} does not fit the {channels} channels before it")


def _inputs(layer: Layer) -> int | None:
    """Return how many channels a layer takes; None for any number."""
    match layer:
        case Conv1D():
            return int(layer.kernel.shape[1])
        case Dense() | Lstm() | Gru():
            return int(layer.kernel.shape[0])
        case Bidirectional():
            one, other = layer.forward.kernel.shape[0], layer.backward.kernel.shape[0]
            # -1 fits no number of channels
            return int(one) if one == other else -1
        case Affine():
            return layer.scale.size
    return None


def _slid(steps: int, reach: int, stride: int, edges: str) -> int:
    left = -(-(steps - reach + 1) // stride) if edges == "valid" else -(-steps // stride)
    if left < 1:
        raise ArtifactError(f"a window of {reach} steps does not fit into {steps}")
    return left


def layers_in_order(config: Any) -> list[tuple[str, Config]]:
    """Return class name and settings of each layer; raise ArtifactError for a network that is no chain."""
    kind, inner = config["class_name"], config["config"]
    if kind in _FUNCTIONAL:
        layers = _chain(inner)
    elif kind == "Sequential":
        layers = inner if isinstance(inner, list) else inner["layers"]  # a list before Keras 2.2.3
    else:
        raise ArtifactError(f"it is a {kind!r} model; Sequential and functional ones can be imported")
    return [(str(layer["class_name"]), layer["config"]) for layer in layers]


def _chain(config: Config) -> list[Config]:
    layers = {str(layer["name"]): layer for layer in config["layers"]}
    inputs, outputs = _names(config["input_layers"]), _names(config["output_layers"])
    if len(inputs) != 1 or len(outputs) != 1:
        raise ArtifactError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one of each")
    masks = {name for name, layer in layers.items() if _is_mask(layer, inputs[0])}
    after: dict[str, str] = {}
    for name in layers.keys() - masks - {*inputs}:
        source = _source(name, layers[name], masks)
        if after.setdefault(source, name) != name:
            raise ArtifactError(f"its layers are no chain: several follow {source!r}")
    order = [inputs[0]]
    # bounded: a hostile configuration may have a cycle
    while order[-1] in after and len(order) <= len(layers):
        order.append(after[order[-1]])
    if order[-1] != outputs[0] or len(order) != len(layers) - len(masks):
        raise ArtifactError("its layers are no chain from the input to the output")
    return [layers[name] for name in order]


def _names(tensors: Any) -> list[str]:
    """Return the layers of `[name, node, tensor]` triples; a single one may come without a list."""
    return [str(tensors[0])] if isinstance(tensors[0], str) else [str(tensor[0]) for tensor in tensors]


def _source(name: str, layer: Config, masks: set[str]) -> str:
    """Return the one layer whose output is the input of `layer`."""
    nodes = layer["inbound_nodes"]
    if len(nodes) != 1:
        raise ArtifactError(f"layer {name!r} is used {len(nodes)} times; a chain uses each once")
    node = nodes[0]
    if isinstance(node, list):  # Keras 2: [[name, node, tensor, arguments], …]
        sources, others = [str(call[0]) for call in node], [_tensors(call[3:]) for call in node]
    else:
        sources, others = _tensors(node["args"]), [_tensors(node["kwargs"])]
    if len(sources) != 1 or {name for tensors in others for name in tensors} - masks:
        raise ArtifactError(f"layer {name!r} has more than one input; only chains of layers are supported")
    return sources[0]


def _is_mask(layer: Config, source: str) -> bool:
    """Return whether a layer is `tokens != 0`, which Keras 3 writes beside an Embedding with a mask."""
    if layer["class_name"] != "NotEqual" or len(layer["inbound_nodes"]) != 1:
        return False
    arguments = layer["inbound_nodes"][0]["args"]
    return _tensors(arguments) == [source] and arguments[1:] == [0]


def _tensors(value: Any) -> list[str]:
    """Return the layers whose outputs are named anywhere in the arguments of a call of Keras 3."""
    if isinstance(value, dict):
        if value.get("class_name") == _TENSOR:
            return [str(value["config"]["keras_history"][0])]
        return [name for inner in value.values() for name in _tensors(inner)]
    return [name for inner in value for name in _tensors(inner)] if isinstance(value, list) else []
