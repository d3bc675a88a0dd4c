"""Keras's LSTM with dropout over a batch of padded texts, and its gradient, in few large products:

    forward    step by step:   [word, state] · mask ──► gates ──► cell ──► state     kept in the history
    backward   step by step:   gradient by each gate's logits, from that of the next step
               12 steps at once: gradient of the weights, one product of inputs and gradients by logits

With recurrent dropout Keras draws masks for each of its four gates, so gates come first in every array:
input, forget, candidate, output. Word and state are side by side, and one product multiplies both. As many
steps are run as the longest text of the batch has, so one compiled program serves every length.

Written by hand, because JAX cannot differentiate a loop whose length is known at run time only, and took 1.6
times as long compiled for each length (`benchmarks/lstm_gradient.py`). Handles arrays; tests compare it with
Keras's own layer. Independent of losses and optimizers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from tamis.training.trainers.lstm.keras_backend import jax

Array = Any
"""JAX's arrays, and numpy's where a program is called."""

STEPS_TOGETHER = 12
"""Arrays must have room for a multiple of so many steps."""


class Weights(NamedTuple):
    """What is learned.

    embedding: [words, embedding]
    gates:     [4, embedding + units, units], for the word and for the state before
    bias:      [4, 1, units]
    """

    embedding: Array
    gates: Array
    bias: Array

    @classmethod
    def from_keras(cls, embedding: Array, kernel: Array, recurrent: Array, bias: Array) -> Weights:
        """Return the same from Keras's [embedding, 4 units], [units, 4 units] and [4 units]."""
        both = jnp.concatenate([kernel, recurrent])
        return cls(embedding, _by_gate(both), _by_gate(bias[None]))

    def to_keras(self) -> list[npt.NDArray[np.float32]]:
        """Return copies as Keras has them."""
        both, (bias,) = (np.concatenate(list(np.asarray(part)), axis=1) for part in self[1:])
        kernel, recurrent = np.split(both, [np.shape(self.embedding)[1]])
        return [np.array(part) for part in (self.embedding, kernel, recurrent, bias)]


class Padded(NamedTuple):
    """Texts of one array.

    tokens: [steps, texts] numbers of words
    real:   [steps, texts] whether the step is taken; the others leave everything as it is
    steps:  how many there are up to the last real one
    """

    tokens: Array
    real: Array
    steps: Array


class History(NamedTuple):
    """What the gradient needs of each step, and buffers for what it finds.

    inputs:    [steps, texts, embedding + units] the words and the states before, nothing dropped
    cells:     [steps, texts, units] before the step
    squashed:  [steps, texts, units] tanh of the cells after it
    gates:     [4, steps, texts, units] as they were opened
    by_logits: [4, steps, texts, units] the gradient by what opened them
    """

    inputs: Array
    cells: Array
    squashed: Array
    gates: Array
    by_logits: Array


def empty_history(steps: int, texts: int, embedding: int, units: int) -> History:
    """Return buffers for a history, which are reused: allocating them takes longer than a batch."""
    # of 300 steps, allocated anew for every batch, it took 15 ms: pages that the kernel fills with zeros
    one, by_gate = (steps, texts, units), (4, steps, texts, units)
    return History(*map(jnp.zeros, ((steps, texts, embedding + units), one, one, by_gate, by_gate)))


def last_states(weights: Weights, texts: Padded) -> Array:
    """Return [texts, units] the states after the last real step of each text, without dropout."""
    return _forward(weights, np.ones((4, 1, 1), np.float32), texts, None)[0]


def last_states_to_learn(
    weights: Weights, mask: Array, texts: Padded, buffers: History
) -> tuple[Array, History]:
    """Return `last_states` with dropout, and the history, which takes over the memory of `buffers`.

    `mask` is the same at every step: factors [4, texts, embedding + units].
    """
    state, (inputs, cells, squashed, gates) = _forward(weights, mask, texts, buffers[:-1])
    # gradients by logits are not known yet, but their buffer must reach the backward pass
    return state, History(inputs, cells, squashed, gates, buffers.by_logits)


def _forward(weights: Weights, mask: Array, texts: Padded, history: Any) -> tuple[Array, Any]:
    known, units = weights.embedding.shape[1], weights.bias.shape[-1]

    def step(at: Array, carried: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
        inputs, cell, history = carried
        inputs = inputs.at[:, :known].set(weights.embedding[_of(texts.tokens, at)])
        gates = _open((inputs * mask) @ weights.gates + weights.bias)
        i, f, g, o = gates
        new_cell = f * cell + i * g
        squashed = jnp.tanh(new_cell)  # kept: computing it again on the way back cost 12 µs a step
        if history is not None:
            history = tuple(map(_put, history, (inputs, cell, squashed, gates), [at] * 4))
        # padding leaves state and cell as they are: Keras masks it in the same way
        real = _of(texts.real, at)[:, None]
        state = jnp.where(real, o * squashed, inputs[:, known:])
        return inputs.at[:, known:].set(state), jnp.where(real, new_cell, cell), history

    count = texts.tokens.shape[1]
    # the words' part of the inputs is overwritten in each step; the states begin with zeros, as Keras's do
    start = jnp.zeros((count, known + units)), jnp.zeros((count, units)), history
    inputs, _, history = jax.lax.fori_loop(0, texts.steps, step, start)
    return inputs[:, known:], history


def gradient(
    weights: Weights, mask: Array, texts: Padded, history: History, by_states: Array
) -> tuple[Weights, History]:
    """Return the gradient by the weights from that by the last states, and the history, used up."""
    by_embedding, by_logits = _backward(weights, mask, texts, history, by_states)
    together, count = STEPS_TOGETHER, texts.tokens.shape[1]

    def of_some(number: int | Array) -> tuple[Array, Array]:
        at = number * together
        # larger than this batch: beyond its last step the buffers hold values of an earlier, longer one
        taken = (at + jnp.arange(together) < texts.steps)[:, None, None]  # the rest is of other batches
        logits = jnp.where(taken, _cut(by_logits, at, axis=1), 0).reshape(4, together * count, -1)
        inputs = (_cut(history.inputs, at, axis=0) * mask[:, None]).reshape(4, together * count, -1)
        return jnp.swapaxes(inputs, 1, 2) @ logits, logits.sum(axis=1, keepdims=True)

    def with_some(number: Array, sums: tuple[Array, Array]) -> tuple[Array, ...]:
        return tuple(map(jnp.add, sums, of_some(number)))

    by_weights = jax.lax.fori_loop(1, -(-texts.steps // together), with_some, of_some(0))
    return Weights(by_embedding, *by_weights), history._replace(by_logits=by_logits)


def _backward(
    weights: Weights, mask: Array, texts: Padded, history: History, by_states: Array
) -> tuple[Array, Array]:
    """Go back over the steps; return the gradient by the embedding and that by each step's logits."""
    known, back = weights.embedding.shape[1], jnp.swapaxes(weights.gates, 1, 2)

    def step(number: Array, carried: tuple[Array, Array, Array, Array, Array]) -> Any:
        by_state, by_cell, by_embedding, by_gates, buffers = carried
        at = texts.steps - 1 - number
        real = _of(texts.real, at)[:, None]
        cell, squashed = _of(history.cells, at), _of(history.squashed, at)
        i, f, g, o = _of(history.gates, at, axis=1)
        by_new_cell = by_cell + by_state * o * (1 - squashed**2)
        by_logits = (
            by_new_cell * g * i * (1 - i),
            by_new_cell * cell * f * (1 - f),
            by_new_cell * i * (1 - g**2),
            by_state * squashed * o * (1 - o),
        )
        for gate, own in enumerate(by_logits):  # one array put together at once is computed twice, and slowly
            by_gates = by_gates.at[gate].set(jnp.where(real, own, 0))
        by_word, by_state_before = jnp.split(((by_gates @ back) * mask).sum(axis=0), [known], axis=1)
        return (
            jnp.where(real, by_state_before, by_state),
            jnp.where(real, by_new_cell * f, by_cell),
            by_embedding.at[_of(texts.tokens, at)].add(by_word),
            by_gates,
            _put(buffers, by_gates, at),
        )

    start = (
        by_states,
        jnp.zeros_like(by_states),
        jnp.zeros_like(weights.embedding),
        jnp.zeros((4, *by_states.shape)),
        history.by_logits,
    )
    *_, by_embedding, _, by_logits = jax.lax.fori_loop(0, texts.steps, step, start)
    return by_embedding, by_logits


def _open(logits: Array) -> Array:
    """Return the gates: tanh of the candidate; of the others the logistic function, by its tanh."""
    # one loop without branches for all four: XLA's code for two functions branched at every number
    half = np.array([0.5, 0.5, 1, 0.5], np.float32)[:, None, None]
    return jnp.tanh(logits * half) * half + (1 - half)


def _by_gate(weights: Array) -> Array:
    """Return [4, inputs, units] of Keras's [inputs, 4 units]."""
    return jnp.stack(jnp.split(weights, 4, axis=1))


def _of(all_steps: Array, at: Array, axis: int = 0) -> Array:
    return jax.lax.dynamic_index_in_dim(all_steps, at, axis, keepdims=False)


def _put(all_steps: Array, one: Array, at: Array) -> Array:
    """Replace the values of the step `at`; steps are the first axis, or the one after the gates."""
    axis = one.ndim - 2
    return jax.lax.dynamic_update_slice_in_dim(all_steps, jnp.expand_dims(one, axis), at, axis)


def _cut(all_steps: Array, at: Array, *, axis: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(all_steps, at, STEPS_TOGETHER, axis)
