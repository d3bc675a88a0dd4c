"""The states of recurrent layers after any number of zeros before the text.

An unmasked network reads its padding. What it remembers of k zeros depends on k alone, so it is
computed once, and a text costs its own steps. Knows arithmetic only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tamis.artifact.onnx_export.layers import HARD_SIGMOID_SLOPES, Floats, Gru, Lstm, Recurrent

_Doubles = npt.NDArray[np.float64]

States = list[Floats]
"""For each layer [zeros + 1, units]: row k is the state after k zeros."""


def states_after_zeros(
    layers: Sequence[Recurrent], zero: Floats, *, most: int
) -> tuple[States, list[Floats | None]]:
    """Return the outputs and the cell states (None for a GRU) of each layer after 0 to `most` zeros.

    `zero` [inputs] is what the embedding makes of a zero.
    """
    outputs = [np.zeros((most + 1, layer.units)) for layer in layers]
    cells = [np.zeros((most + 1, layer.units)) for layer in layers]
    for step in range(most):
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
