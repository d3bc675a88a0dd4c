"""Keras's LSTM with dropout over a batch of padded texts, and its gradient, in few large products.

With recurrent dropout Keras draws masks for each of its four gates, so gates come first in every array:
input, forget, candidate, output.

Taken step by step, as Keras takes them, the words of each step are multiplied by the kernel alone, and
every step adds its part to the gradients of the weights. Here four steps make a stretch: only what
depends on the step before is done one by one, the rest is one product for the whole stretch. As many
stretches are run as the longest text of the batch needs, so one compiled program serves every length.

Knows arrays; a test holds it to Keras's own layers. Does not know losses or optimizers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from tamis.models.lstm.keras_on_jax import jax

Array = Any
"""JAX's arrays, and numpy's where a program is called."""

STRETCH_STEPS = 4


class Weights(NamedTuple):
    """What is learned, in Keras's order.

    embedding: [words, embedding]
    kernel:    [embedding, 4 units]
    recurrent: [units, 4 units]
    bias:      [4 units]
    """

    embedding: Array
    kernel: Array
    recurrent: Array
    bias: Array


class Masks(NamedTuple):
    """Dropout, the same at every step: factors [4, texts, embedding] and [4, texts, units]; 1 for none."""

    words: Array = np.ones((4, 1, 1), np.float32)
    states: Array = np.ones((4, 1, 1), np.float32)


class Padded(NamedTuple):
    """Texts of one array.

    tokens:    [steps, texts] numbers of words
    real:      [steps, texts] whether the step is taken; the others leave everything as it is
    stretches: in how many stretches all real steps are
    """

    tokens: Array
    real: Array
    stretches: Array


class History(NamedTuple):
    """What the gradient needs of each step.

    gates:  [steps, 4, texts, units] as they were opened
    cells:  [steps, texts, units] before the step
    states: [steps, texts, units] before the step
    """

    gates: Array
    cells: Array
    states: Array


def empty_history(steps: int, texts: int, units: int) -> History:
    """Return room for a history, to be used again: to ask for it anew takes longer than a batch."""
    one = (texts, units)
    return History(*(jnp.zeros((steps, *shape)) for shape in ((4, *one), one, one)))


def last_states(weights: Weights, texts: Padded) -> Array:
    """Return [texts, units] the states after the last real step of each text, without dropout."""
    return _forward(weights, Masks(), texts, None)[0]


@jax.custom_vjp
def last_states_to_learn(weights: Weights, masks: Masks, texts: Padded, room: History) -> Any:
    """Return `last_states` with dropout, and the history, which takes the place of `room`.

    It has a gradient by the weights alone.
    """
    return _forward(weights, masks, texts, room)


def _forward(weights: Weights, masks: Masks, texts: Padded, room: History | None) -> tuple[Array, Any]:
    kernel, recurrent, bias = (_by_gate(part) for part in weights[1:])

    def stretch(number: Array, carried: tuple[Array, Array, History | None]) -> Any:
        state, cell, history = carried
        at = number * STRETCH_STEPS
        tokens, real = _cut(texts.tokens, at), _cut(texts.real, at)
        given = _apart(_masked(weights.embedding[tokens], masks.words) @ kernel + bias)
        steps = []
        for step in range(STRETCH_STEPS):
            gates = _open(given[:, step] + (state * masks.states) @ recurrent)
            steps.append(History(gates, cell, state))
            i, f, g, o = gates
            new_cell = f * cell + i * g
            state = jnp.where(real[step, :, None], o * jnp.tanh(new_cell), state)
            cell = jnp.where(real[step, :, None], new_cell, cell)
        if history is not None:
            history = History(*map(lambda all_, *own: _put(all_, jnp.stack(own), at), history, *steps))
        return state, cell, history

    nothing = jnp.zeros((texts.tokens.shape[1], weights.recurrent.shape[0]))
    state, _, history = jax.lax.fori_loop(0, texts.stretches, stretch, (nothing, nothing, room))
    return state, history


def _forward_to_learn(weights: Weights, masks: Masks, texts: Padded, room: History) -> Any:
    state, history = _forward(weights, masks, texts, room)
    return (state, history), (weights, masks, texts, history)


def _backward(kept: tuple[Weights, Masks, Padded, History], wanted: tuple[Array, Any]) -> Any:
    """Go back over the stretches, from the gradient by the last states to that by the weights."""
    weights, masks, texts, history = kept
    kernel, recurrent, bias = (_by_gate(part) for part in weights[1:])

    def stretch(number: Array, carried: tuple[Array, Array, Weights]) -> Any:
        by_state, by_cell, sums = carried
        at = (texts.stretches - 1 - number) * STRETCH_STEPS
        tokens, real = _cut(texts.tokens, at), _cut(texts.real, at)
        steps = History(*(_cut(part, at) for part in history))
        by_logits: list[Array] = []
        for step in reversed(range(STRETCH_STEPS)):
            taken = real[step, :, None]
            own, by_cell_before = _step_back(steps.gates[step], steps.cells[step], by_state, by_cell)
            by_logits.insert(0, jnp.where(taken, own, 0))
            through = ((by_logits[0] @ _turned(recurrent)) * masks.states).sum(axis=0)
            by_state = jnp.where(taken, 0, by_state) + through
            by_cell = jnp.where(taken, by_cell_before, by_cell)
        whole = _together(jnp.stack(by_logits, axis=1))
        by_words = (_apart(whole @ _turned(kernel)) * masks.words[:, None]).sum(axis=0)
        added = Weights(
            sums.embedding.at[tokens].add(by_words),
            sums.kernel + _turned(_masked(weights.embedding[tokens], masks.words)) @ whole,
            sums.recurrent + _turned(_masked(steps.states, masks.states)) @ whole,
            sums.bias + whole.sum(axis=1, keepdims=True),
        )
        return by_state, by_cell, added

    by_state, _ = wanted
    nothing = Weights(*map(jnp.zeros_like, (weights.embedding, kernel, recurrent, bias)))
    start = (by_state, jnp.zeros_like(by_state), nothing)
    *_, (embedding, *sums) = jax.lax.fori_loop(0, texts.stretches, stretch, start)
    by_weights = (_as_keras(part).reshape(own.shape) for part, own in zip(sums, weights[1:], strict=True))
    return Weights(embedding, *by_weights), None, None, None


def _step_back(gates: Array, cell: Array, by_state: Array, by_cell: Array) -> tuple[Array, Array]:
    """Return the gradients by a step's logits and by the cell before it, from those by what came of it."""
    i, f, g, o = gates
    squashed = jnp.tanh(f * cell + i * g)
    by_new_cell = by_cell + by_state * o * (1 - squashed**2)
    by_logits = (
        by_new_cell * g * i * (1 - i),
        by_new_cell * cell * f * (1 - f),
        by_new_cell * i * (1 - g**2),
        by_state * squashed * o * (1 - o),
    )
    return jnp.stack(by_logits), by_new_cell * f


last_states_to_learn.defvjp(_forward_to_learn, _backward)


def _open(logits: Array) -> Array:
    i, f, g, o = logits
    return jnp.stack([jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)])


def _by_gate(weights: Array) -> Array:
    """Return [4, inputs, units] of Keras's [inputs, 4 units]; a bias has one input."""
    inputs = weights.reshape(-1, weights.shape[-1])
    return jnp.stack(jnp.split(inputs, 4, axis=1))


def _as_keras(by_gate: Array) -> Array:
    return jnp.concatenate(list(by_gate), axis=1)


def _cut(steps: Array, at: Array) -> Array:
    return jax.lax.dynamic_slice_in_dim(steps, at, STRETCH_STEPS)


def _put(steps: Array, stretch: Array, at: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(steps, stretch, at, axis=0)


def _masked(stretch: Array, masks: Array) -> Array:
    """Return [4, steps · texts, ·] of [steps, texts, ·], each gate's own part dropped."""
    return _together(stretch * masks[:, None])


def _together(stretch: Array) -> Array:
    """Return [4, steps · texts, ·] of [4, steps, texts, ·], for one product a gate."""
    return stretch.reshape(4, -1, stretch.shape[-1])


def _apart(stretch: Array) -> Array:
    return stretch.reshape(4, STRETCH_STEPS, -1, stretch.shape[-1])


def _turned(matrices: Array) -> Array:
    return jnp.swapaxes(matrices, 1, 2)
