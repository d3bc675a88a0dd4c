"""The layers of a Keras configuration in the order in which a text passes them.

A Sequential model lists them; a functional one says for each layer where its input comes from, and
must be a chain. Knows the two formats of Keras 2 and 3; does not know what a layer computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tamis.errors import ArtifactError

Config = Mapping[str, Any]

_FUNCTIONAL = ("Functional", "Model")  # its name before Keras 2.4
_TENSOR = "__keras_tensor__"


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
    while order[-1] in after and len(order) <= len(layers):
        order.append(after[order[-1]])
    if order[-1] != outputs[0] or len(order) != len(layers) - len(masks):
        raise ArtifactError("its layers are no chain from the input to the output")
    return [layers[name] for name in order]


def _names(places: Any) -> list[str]:
    """Return the layers of `[name, node, tensor]` triples; a single one may stand without a list."""
    return [str(places[0])] if isinstance(places[0], str) else [str(place[0]) for place in places]


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
