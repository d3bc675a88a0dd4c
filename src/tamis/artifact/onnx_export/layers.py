"""The layers a network may have, as frozen records of arrays in Keras's own layout.

Also the states of recurrent layers after zeros before the text: an unmasked network reads its padding.
The state after k zeros depends on k alone, so it is computed once, and a text costs its own steps.
Independent of files, Keras and ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Gates = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_keras_3"]
Activation = Literal["linear", "relu", "sigmoid", "softmax", "tanh", "hard_sigmoid", "hard_sigmoid_keras_3"]
Side = Literal["pre", "post"]
Edges = Literal["valid", "same", "causal"]


@dataclass(frozen=True)
class Embedding:
    """weights [words, size]; with `masked`, the zeros around a text are no steps of it."""

    weights: Floats
    masked: bool


@dataclass(frozen=True)
class Lstm:
    """kernel [inputs, 4 units], recurrent [units, 4 units], bias [4 units]; gates in the order i, f, c, o."""

    kernel: Floats
    recurrent: Floats
    bias: Floats
    sequences: bool = False
    gates: Gates = "sigmoid"

    @property
    def units(self) -> int:
        """The size of its state."""
        return int(self.recurrent.shape[0])


@dataclass(frozen=True)
class Gru:
    """kernel [inputs, 3 units], recurrent [units, 3 units]; gates in the order z, r, h.

    bias is [2, 3 units], one for the input and one for the state: Keras's `reset_after`, where the
    reset gate works on the product of state and weights. Without it the second row is zero.
    """

    kernel: Floats
    recurrent: Floats
    bias: Floats
    reset_after: bool = True
    sequences: bool = False
    gates: Gates = "sigmoid"

    @property
    def units(self) -> int:
        """The size of its state."""
        return int(self.recurrent.shape[0])


@dataclass(frozen=True)
class Bidirectional:
    """Two recurrent layers of equal size, one over the steps as they are and one over them reversed."""

    forward: Lstm | Gru
    backward: Lstm | Gru
    merge: Literal["concat", "sum", "ave", "mul"] = "concat"

    @property
    def sequences(self) -> bool:
        """Whether it gives a value for every step."""
        return self.forward.sequences

    @property
    def units(self) -> int:
        """How many values it gives."""
        return self.forward.units * (2 if self.merge == "concat" else 1)


@dataclass(frozen=True)
class Conv1D:
    """kernel [window, inputs, filters], bias [filters]."""

    kernel: Floats
    bias: Floats
    stride: int = 1
    dilation: int = 1
    edges: Edges = "valid"
    activation: Activation = "linear"


@dataclass(frozen=True)
class Pool:
    """The largest value, or the average, of each window of steps."""

    kind: Literal["max", "average"]
    size: int
    stride: int
    edges: Edges = "valid"


@dataclass(frozen=True)
class GlobalPool:
    """The largest value, or the average, of all steps."""

    kind: Literal["max", "average"]


@dataclass(frozen=True)
class Flatten:
    """All steps beside one another."""


@dataclass(frozen=True)
class Dense:
    """kernel [inputs, units], bias [units]."""

    kernel: Floats
    bias: Floats
    activation: Activation = "linear"


@dataclass(frozen=True)
class Affine:
    """Channels times scale [channels] plus shift [channels]: batch normalisation in prediction."""

    scale: Floats
    shift: Floats
    axis: int = -1


@dataclass(frozen=True)
class Activate:
    """An activation as a layer of its own, over channels."""

    activation: Activation


Recurrent = Lstm | Gru
Layer = (
    Embedding | Lstm | Gru | Bidirectional | Conv1D | Pool | GlobalPool | Flatten | Dense | Affine | Activate
)

HARD_SIGMOID_SLOPES: dict[str, float] = {"hard_sigmoid": 0.2, "hard_sigmoid_keras_3": 1 / 6}
"""`max(0, min(1, slope · x + ½))`: Keras 3 made the slope another one and kept the name."""


@dataclass(frozen=True)
class Network:
    """An embedding, then layers over steps, then dense ones; texts are `max_tokens` steps at most.

    Zeros are before or after a text, on the side `padding`.
    """

    embedding: Embedding
    layers: tuple[Layer, ...]
    max_tokens: int
    padding: Side = "pre"

    @property
    def recurrent(self) -> tuple[Recurrent | Bidirectional, ...]:
        """The leading layers that go from step to step."""
        leading = []
        for layer in self.layers:
            if not isinstance(layer, Lstm | Gru | Bidirectional):
                break
            leading.append(layer)
        return tuple(leading)

    @property
    def one_way(self) -> tuple[Recurrent, ...]:
        """The leading recurrent layers, if all of them go forward only."""
        one_way = tuple(layer for layer in self.recurrent if not isinstance(layer, Bidirectional))
        return one_way if len(one_way) == len(self.recurrent) else ()

    @property
    def runs_own_steps(self) -> bool:
        """Whether only the text's own steps are run.

        Masked zeros are no steps. Others must all come before the text, where the state that they
        leave can be looked up.
        """
        recurrent = self.recurrent
        # the layer after it needs the output of every step, those of zeros included
        if not recurrent or recurrent[-1].sequences:
            return False
        return self.embedding.masked or (self.padding == "pre" and bool(self.one_way))

    @property
    def margin(self) -> int | None:
        """How many zeros beside a text are enough if all of them would give the same; None: all count.

        The largest value over steps does not change when steps that see zeros alone are left out, as
        long as one of each kind stays: at the left edge, between zeros, and beside the text.
        """
        leading = list(takewhile(lambda layer: not isinstance(layer, Dense), self.layers))
        last = leading[-1] if leading else None
        if not isinstance(last, GlobalPool) or last.kind != "max":
            return None
        reach = 0
        for layer in leading[:-1]:
            if isinstance(layer, Affine | Activate):
                continue  # they look at one step
            if not isinstance(layer, Conv1D) or layer.stride != 1:
                return None
            # how far a step sees to one side, over all windows before the maximum
            reach += (layer.kernel.shape[0] - 1) * layer.dilation
        return 2 * reach + 1


_Doubles = npt.NDArray[np.float64]

States = list[Floats]
"""For each layer [zeros + 1, units]: row k is the state after k zeros."""


def states_after_zeros(
    layers: Sequence[Recurrent], zero: Floats, *, max_zeros: int
) -> tuple[States, list[Floats | None]]:
    """Return the outputs and the cell states (None for a GRU) of each layer after 0 to `max_zeros` zeros.

    `zero` [inputs] is what the embedding makes of a zero.
    """
    outputs = [np.zeros((max_zeros + 1, layer.units)) for layer in layers]
    cells = [np.zeros((max_zeros + 1, layer.units)) for layer in layers]
    for step in range(max_zeros):
        # in double precision: errors would add up over hundreds of steps
        signal = zero.astype(np.float64)
        for layer, output, cell in zip(layers, outputs, cells, strict=True):
            if isinstance(layer, Lstm):
                signal, cell[step + 1] = _lstm_step(layer, signal, output[step], cell[step])
            else:
                signal = _gru_step(layer, signal, output[step])
            output[step + 1] = signal
    return (
        [output.astype(np.float32) for output in outputs],
        [
            cell.astype(np.float32) if isinstance(layer, Lstm) else None
            for layer, cell in zip(layers, cells, strict=True)
        ],
    )


def _lstm_step(layer: Lstm, signal: _Doubles, output: _Doubles, cell: _Doubles) -> tuple[_Doubles, _Doubles]:
    gates = signal @ layer.kernel + output @ layer.recurrent + layer.bias
    into, forget, candidate, out = np.split(gates, 4)
    after = _gate(forget, layer) * cell + _gate(into, layer) * np.tanh(candidate)
    return _gate(out, layer) * np.tanh(after), after


def _gru_step(layer: Gru, signal: _Doubles, output: _Doubles) -> _Doubles:
    units = layer.units
    from_input = signal @ layer.kernel + layer.bias[0]
    gates = from_input[: 2 * units] + output @ layer.recurrent[:, : 2 * units] + layer.bias[1, : 2 * units]
    update, reset = np.split(_gate(gates, layer), 2)
    to_candidate = layer.recurrent[:, 2 * units :]
    remembered = (
        reset * (output @ to_candidate + layer.bias[1, 2 * units :])
        if layer.reset_after
        else (reset * output) @ to_candidate
    )
    candidate = np.tanh(from_input[2 * units :] + remembered)
    after: _Doubles = update * output + (1 - update) * candidate
    return after


def _gate(values: _Doubles, layer: Recurrent) -> _Doubles:
    if layer.gates == "sigmoid":
        result: _Doubles = 1 / (1 + np.exp(-values))
        return result
    return np.clip(HARD_SIGMOID_SLOPES[layer.gates] * values + 0.5, 0, 1)
