"""A network as an ONNX graph: tokens in, probabilities out.

Handles layers and ONNX operators; independent of texts and of the arrays' origin. Keras cannot
write ONNX itself when it runs on JAX.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tamis.artifact.onnx_export.layers import (
    HARD_SIGMOID_SLOPES,
    Activate,
    Activation,
    Affine,
    Bidirectional,
    Conv1D,
    Dense,
    Edges,
    Flatten,
    Floats,
    GlobalPool,
    Gru,
    Lstm,
    Network,
    Pool,
    Recurrent,
    states_after_zeros,
)

_OPSET, _IR_VERSION = 17, 10  # what every ONNX Runtime that we allow can read
_OPERATORS: dict[Activation, str] = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "tanh": "Tanh",
}

Described = dict[str, Any]


def build_onnx(network: Network) -> bytes:
    """Return the model: `tokens` [texts, steps] int32 to `probabilities` [texts, classes].

    If the network runs a text's own steps, zeros follow its tokens and `lengths` [texts] int32 is
    the number of tokens; otherwise zeros fill the side that the network names.
    """
    graph = _Graph()
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["texts", "steps"])]
    if network.runs_own_steps:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["texts"]))
        signal, rest = _own_steps(graph, network), network.layers[len(network.recurrent) :]
    else:
        signal, rest = (
            graph.node("Gather", graph.constant(network.embedding.weights), "tokens"),
            network.layers,
        )
    steps = network.max_tokens
    for layer in rest:
        signal, steps = _add(graph, layer, signal, steps)
    # one unit gives the probability of the second label; a scorer expects one column per label
    if isinstance(network.layers[-1], Dense) and network.layers[-1].bias.size == 1:
        other = graph.node("Sub", graph.constant(np.ones(1, np.float32)), signal)
        signal = graph.node("Concat", other, signal, axis=1)
    graph.nodes.append(helper.make_node("Identity", [signal], ["probabilities"]))
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["texts", None])
    made = helper.make_graph(graph.nodes, "network", inputs, [output], graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="tamis"
    )
    # a mistake of this module must fail here, not in a service
    onnx.checker.check_model(model, full_check=True)
    # deterministic: the same network gives the same bytes, so the same identity
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def describe_input(network: Network) -> Described:
    """Return what a scorer must know to feed the graph; the manifest keeps it."""
    described = {
        "max_tokens": network.max_tokens,
        "own_steps": network.runs_own_steps,
        "margin": network.margin,
    }
    return described if network.padding == "pre" else {**described, "padding": network.padding}


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, output: int = 0, **attributes: Any) -> str:
        """Add a node; return the name of its result, the `output`th of `outputs`."""
        names = [f"value_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[output]


def _own_steps(graph: _Graph, network: Network) -> str:
    """Add the embedding and the recurrent layers, run for as many steps as a text has."""
    embedding = network.embedding
    signal = graph.node(
        "Gather", graph.constant(embedding.weights), graph.node("Transpose", "tokens", perm=[1, 0])
    )
    states: list[list[str]] = [[] for _ in network.recurrent]
    lengths = "lengths"
    if not embedding.masked:
        # A text without words is one zero: the operators give no state for texts of no steps.
        lengths = graph.node("Max", "lengths", graph.constant(np.array([1], np.int32)))
        states = _initial_states(graph, network, lengths)
    for layer, initial in zip(network.recurrent, states, strict=True):
        signal = _recur(graph, layer, signal, lengths, initial)
    return signal


def _initial_states(graph: _Graph, network: Network, lengths: str) -> list[list[str]]:
    """Add, for each recurrent layer, the states [1, texts, units] after the zeros before each text."""
    # padding that was not run: the row of the table is the number of zeros before the text
    zeros = graph.node("Sub", graph.constant(np.array([network.max_tokens], np.int32)), lengths)
    outputs, cells = states_after_zeros(
        network.one_way, network.embedding.weights[0], max_zeros=network.max_tokens
    )

    def looked_up(table: Floats) -> str:
        found = graph.node("Gather", graph.constant(table), zeros)
        return graph.node("Unsqueeze", found, graph.constant(np.array([0], np.int64)))

    return [
        [looked_up(table) for table in tables if table is not None]
        for tables in zip(outputs, cells, strict=True)
    ]


def _recur(
    graph: _Graph, layer: Recurrent | Bidirectional, signal: str, lengths: str, initial: list[str]
) -> str:
    """Add a layer over [steps, texts, inputs]; the result is [steps, texts, units] or [texts, units]."""
    if not isinstance(layer, Bidirectional):
        return _recur_one_way(graph, layer, signal, lengths, initial)
    both = [
        _recur_one_way(graph, one, signal, lengths, [], direction=direction)
        for one, direction in ((layer.forward, "forward"), (layer.backward, "reverse"))
    ]
    # both directions of one node would be two axes; two nodes merge as Keras does
    if layer.merge == "concat":
        return graph.node("Concat", *both, axis=-1)
    return graph.node({"sum": "Add", "mul": "Mul", "ave": "Mean"}[layer.merge], *both)


def _recur_one_way(
    graph: _Graph,
    layer: Recurrent,
    signal: str,
    lengths: str,
    initial: list[str],
    *,
    direction: str = "forward",
) -> str:
    order: tuple[int, ...]
    attributes: Described = {} if direction == "forward" else {"direction": direction}
    if isinstance(layer, Lstm):
        operator, order = "LSTM", (0, 3, 1, 2)  # i, f, c, o becomes i, o, f, c
        # ONNX adds two biases, for input and state; Keras's LSTM has one
        bias = np.concatenate([_gates(layer.bias, order), np.zeros_like(layer.bias)])
    else:
        operator, order = "GRU", (0, 1, 2)
        # the name that ONNX has for Keras's `reset_after`
        attributes["linear_before_reset"] = int(layer.reset_after)
        bias = layer.bias.reshape(-1)
    if layer.gates != "sigmoid":
        tanh = ["Tanh", "Tanh"] if isinstance(layer, Lstm) else ["Tanh"]
        slope = HARD_SIGMOID_SLOPES[layer.gates]
        attributes |= {"activations": ["HardSigmoid", *tanh], "activation_alpha": [slope]}
        attributes["activation_beta"] = [0.5]
    weights = [_gates(layer.kernel, order).T[None], _gates(layer.recurrent, order).T[None], bias[None]]
    inputs = [signal, *map(graph.constant, weights), lengths, *initial]
    result = graph.node(
        operator, *inputs, outputs=2, output=int(not layer.sequences), hidden_size=layer.units, **attributes
    )
    directions = 1 if layer.sequences else 0  # the axis of the single direction
    return graph.node("Squeeze", result, graph.constant(np.array([directions], np.int64)))


def _gates(array: Floats, order: tuple[int, ...]) -> Floats:
    parts = np.split(array, len(order), axis=-1)
    return np.concatenate([parts[k] for k in order], axis=-1)


def _add(graph: _Graph, layer: object, signal: str, steps: int) -> tuple[str, int]:
    """Add a layer over [texts, steps, channels] or [texts, channels]; return its result and its steps."""
    match layer:
        case Dense():
            product = graph.node("MatMul", signal, graph.constant(layer.kernel))
            summed = graph.node("Add", product, graph.constant(layer.bias))
            return _activate(graph, summed, layer.activation), steps
        case GlobalPool():
            operator = "ReduceMax" if layer.kind == "max" else "ReduceMean"
            return graph.node(operator, signal, axes=[1], keepdims=0), 1
        case Flatten():
            return graph.node("Flatten", signal, axis=1), 1
        case Conv1D() | Pool():
            return _slide(graph, layer, signal, steps)
        case Lstm() | Gru() | Bidirectional():
            # every step is read, those of zeros too
            result = _recur(graph, layer, graph.node("Transpose", signal, perm=[1, 0, 2]), "", [])
            return graph.node("Transpose", result, perm=[1, 0, 2]) if layer.sequences else result, steps
        case Affine():
            scaled = graph.node("Mul", signal, graph.constant(layer.scale))
            return graph.node("Add", scaled, graph.constant(layer.shift)), steps
        case Activate():
            return _activate(graph, signal, layer.activation), steps
    raise TypeError(f"{layer!r} is no layer")


def _slide(graph: _Graph, layer: Conv1D | Pool, signal: str, steps: int) -> tuple[str, int]:
    """Add a layer that moves a window over the steps."""
    window = layer.kernel.shape[0] if isinstance(layer, Conv1D) else layer.size
    dilation = layer.dilation if isinstance(layer, Conv1D) else 1
    reach = (window - 1) * dilation + 1
    pads = _edge_zeros(layer.edges, steps, reach, layer.stride)
    # ONNX has channels before steps, Keras after them
    channels_first = graph.node("Transpose", signal, perm=[0, 2, 1])
    placed: Described = {"kernel_shape": [window], "strides": [layer.stride], "pads": list(pads)}
    if isinstance(layer, Conv1D):
        weights = graph.constant(layer.kernel.transpose(2, 1, 0))
        result = graph.node(
            "Conv", channels_first, weights, graph.constant(layer.bias), dilations=[dilation], **placed
        )
        result = _activate(graph, result, layer.activation, axis=1)
    else:
        result = graph.node("MaxPool" if layer.kind == "max" else "AveragePool", channels_first, **placed)
    left = (steps + sum(pads) - reach) // layer.stride + 1
    return graph.node("Transpose", result, perm=[0, 2, 1]), left


def _edge_zeros(edges: Edges, steps: int, reach: int, stride: int) -> tuple[int, int]:
    """Return how much is added before and after the steps, as Keras does it."""
    if edges == "valid":
        return 0, 0
    if edges == "causal":
        return reach - 1, 0
    added = max((-(-steps // stride) - 1) * stride + reach - steps, 0)
    return added // 2, added - added // 2


def _activate(graph: _Graph, signal: str, activation: Activation, *, axis: int = -1) -> str:
    if activation == "linear":
        return signal
    if activation in HARD_SIGMOID_SLOPES:
        return graph.node("HardSigmoid", signal, alpha=HARD_SIGMOID_SLOPES[activation], beta=0.5)
    attributes = {"axis": axis} if activation == "softmax" else {}
    return graph.node(_OPERATORS[activation], signal, **attributes)
