"""The variables of a network, and the compiled programs that train them and predict with them.

    each device, for its half of a batch:     forward ──► loss ──► backward ──┐
    both devices:     weights, moments, averages ◄── Adam ◄── summed gradients ◄┘

Handles batches of tokens; independent of epochs, validation and files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tamis.models.network.tokenizer import Sequences, batches_of_like_length, lengths_of, pad
from tamis.training.trainers.lstm.keras_backend import jax, keras, learning_devices
from tamis.training.trainers.lstm.network import NetworkShape, build_network
from tamis.training.trainers.lstm.recurrence import (
    STEPS_TOGETHER,
    Array,
    History,
    Padded,
    Weights,
    empty_history,
    gradient,
    last_states,
    last_states_to_learn,
)

_PREDICTED_TEXTS = 64
# arrays are a multiple of so many steps long: a program is compiled for each length of arrays
_LENGTH_UNIT = 5 * STEPS_TOGETHER

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Padding:
    """How texts of at most `longest` words become arrays of one shape.

    left: zeros come before the text and are read; otherwise they follow it and are masked
    """

    longest: int
    left: bool

    @classmethod
    def of(cls, sequences: Sequences, *, max_tokens: int, left: bool) -> Padding:
        """Return the padding for these texts: to the longest one, or if zeros are read to `max_tokens`."""
        return cls(max_tokens if left else max(1, *lengths_of(sequences).tolist(), 0), left)

    @property
    def steps(self) -> int:
        """How many steps an array has."""
        return _up_to_multiple(self.longest, STEPS_TOGETHER if self.left else _LENGTH_UNIT)

    def __call__(self, sequences: Sequences) -> Padded:
        """Return these texts as arrays."""
        tokens = pad(sequences, width=self.steps, left=self.left).T
        if self.left:
            real = np.broadcast_to(np.arange(self.steps)[:, None] >= self.steps - self.longest, tokens.shape)
        else:
            real = tokens > 0
        read = self.steps if self.left else int(lengths_of(sequences).max())
        return Padded(tokens, real, np.int32(read))


def _up_to_multiple(number: int, unit: int) -> int:
    return -(-number // unit) * unit


@dataclass(frozen=True)
class TrainingBatch:
    """Texts with their classes and weights; one of weight 0 only fills the batch up."""

    texts: Padded
    classes: Classes
    weights: npt.NDArray[np.float32]


def rows_for(texts: int) -> int:
    """Return the number of rows of a batch of so many texts: the same on each device."""
    return _up_to_multiple(texts, len(learning_devices()))


_split: Any = PartitionSpec  # neither this nor `psum` has types
_sum_over_devices: Any = jax.lax.psum

_WHOLE, _BY_TEXT, _SECOND_BY_TEXT, _THIRD_BY_TEXT = (
    _split(),
    _split("texts"),
    _split(None, "texts"),
    _split(None, None, "texts"),
)
_HISTORY = History(*[_SECOND_BY_TEXT] * 3, *[_THIRD_BY_TEXT] * 2)
_PADDED = Padded(_SECOND_BY_TEXT, _SECOND_BY_TEXT, _WHOLE)
"""How the devices share a batch: each has its own texts, and all that is learned."""


def predict(weights: Sequence[Array], sequences: Sequences, padding: Padding) -> Floats:
    """Return [texts, classes] logits, without dropout, by the network's `weights` in Keras's order."""
    devices = _mesh()
    known = _on_devices(devices, list(weights), _WHOLE)
    logits_of = _predicting(devices)
    found = np.zeros((len(sequences), weights[-1].shape[0]))
    for indices in batches_of_like_length(lengths_of(sequences), max_texts=_PREDICTED_TEXTS):
        filled = np.resize(indices, _PREDICTED_TEXTS)  # always as many, or another program is compiled
        texts = padding([sequences[index] for index in filled])
        found[indices] = np.asarray(logits_of(known, texts))[: indices.size]
    return found


# once per process: JAX compiles anew for every function object
@cache
def _predicting(devices: Mesh) -> Callable[[list[Array], Padded], Array]:
    def logits(weights: list[Array], texts: Padded) -> Array:
        *recurrent, kernel, bias = weights
        return last_states(Weights.from_keras(*recurrent), texts) @ kernel + bias

    return jax.jit(
        jax.shard_map(logits, mesh=devices, in_specs=(_WHOLE, _PADDED), out_specs=_BY_TEXT, check_vma=False)
    )


class TrainState:
    """The variables of a network and its optimizer, and the compiled step that changes them.

    Keras gives the network's first weights and the optimizer; `seed` and the number of a step decide the
    dropout masks. Each of two devices computes half of every batch.
    """

    def __init__(
        self, shape: NetworkShape, padding: Padding, *, learning_rate: float, average: float, seed: int
    ):
        optimizer = keras.optimizers.Adam(learning_rate)
        self._shape, self._padding, self._devices = shape, padding, _mesh()
        self._state = self._on_devices(_first_state(shape, optimizer, seed, averaged=average > 0), _WHOLE)
        self._step = _training_step(shape, optimizer, average, seed, self._devices)

    def run_epoch(
        self, batches: list[TrainingBatch], watch: Callable[[int, int, Floats], None]
    ) -> dict[str, float]:
        """Take one step a batch; return the loss and the accuracy, with dropout, over the epoch.

        `watch` gets the number done, the total, and the sums of loss, correct predictions and texts.
        """
        totals = np.zeros(3)
        for done, sums in enumerate(self._taken(batches), 1):
            totals += sums
            watch(done, len(batches), totals)
        loss, correct, texts = totals
        return {"loss": float(loss / texts), "accuracy": float(correct / texts)}

    def _taken(self, batches: list[TrainingBatch]) -> Iterator[Floats]:
        """Yield the sums of each step; the next is begun before they are waited for."""
        # JAX returns before a step is computed: waiting at once would leave the devices idle (18.3 to 17 ms)
        texts, shape = batches[0].classes.size, self._shape
        buffers = empty_history(self._padding.steps, texts, shape.embedding, shape.units)
        buffers, waiting = self._on_devices(buffers, _HISTORY), None
        for batch in batches:
            self._state, buffers, sums = self._step(
                self._state, buffers, batch.texts, batch.classes, batch.weights
            )
            if waiting is not None:
                yield np.asarray(waiting)
            waiting = sums
        yield np.asarray(waiting)

    def logits(self, sequences: Sequences, padding: Padding) -> Floats:
        """Return [texts, classes] logits, without dropout."""
        return predict(self.weights(), sequences, padding)

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """Return a copy of the weights, averaged if averages are kept, in Keras's order."""
        trained, _, averages = self._state
        *recurrent, kernel, bias = averages or trained
        return [*Weights(*recurrent).to_keras(), np.array(kernel), np.array(bias)]

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Return all that the next step depends on: weights, moments, averages."""
        return [np.array(values) for values in jax.tree.leaves(self._state)]

    def put(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Go back to what `arrays` returned."""
        self._state = self._on_devices(jax.tree.unflatten(jax.tree.structure(self._state), arrays), _WHOLE)

    def _on_devices(self, arrays: Any, parts: Any) -> Any:
        return _on_devices(self._devices, arrays, parts)


def _mesh() -> Mesh:
    return Mesh(np.array(learning_devices()), ("texts",))


def _on_devices(devices: Mesh, arrays: Any, parts: Any) -> Any:
    """Put arrays where a step leaves them: on other devices it would be compiled once more."""
    return jax.device_put(arrays, jax.tree.map(lambda part: NamedSharding(devices, part), parts))


def _first_state(shape: NetworkShape, optimizer: Any, seed: int, *, averaged: bool) -> Any:
    """Return the weights, the optimizer's moments and the averages, with Keras's initial values.

    In a stateless scope Keras only computes what a variable's initial value is. All of them are one program:
    as many small ones take most of a second to compile, and a third of one to find in the cache.
    """
    with keras.StatelessScope(initialize_variables=False):
        network = build_network(shape, activation="linear", seed=seed)

        def learned() -> list[Array]:
            *recurrent, kernel, bias = (variable.value for variable in network.trainable_variables)
            return [*Weights.from_keras(*recurrent), kernel, bias]

        optimizer.build([keras.Variable("zeros", part.shape) for part in jax.eval_shape(learned)])
    trained, moments = jax.jit(lambda: (learned(), [variable.value for variable in optimizer.variables]))()
    averages = [jnp.array(part) for part in trained] if averaged else []  # a step gives each away once
    return trained, moments, averages


def _training_step(
    shape: NetworkShape, optimizer: Any, average: float, seed: int, devices: Mesh
) -> Callable[..., Any]:
    def loss_of(states: Array, head: list[Array], classes: Array, weights: Array) -> Any:
        kernel, bias = head
        logits = states @ kernel + bias
        log_probabilities = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_probabilities, classes[:, None], axis=1)[:, 0] * weights
        # texts that only fill the batch up weigh 0, and count neither here nor in the accuracy
        counting = jnp.count_nonzero(weights)
        correct = ((logits.argmax(axis=1) == classes) & (weights > 0)).sum()
        return losses.sum(), jnp.stack([losses.sum(), correct, counting])

    def gradients_of(
        trained: list[Array], buffers: History, mask: Array, texts: Padded, classes: Array, weights: Array
    ) -> Any:
        recurrent, head = Weights(*trained[:-2]), trained[-2:]
        states, history = last_states_to_learn(recurrent, mask, texts, buffers)
        by_all = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
        (by_states, by_head), sums = by_all(states, head, classes, weights)
        by_recurrent, buffers = gradient(recurrent, mask, texts, history, by_states)
        gradients, sums = _sum_over_devices(([*by_recurrent, *by_head], sums), "texts")
        return gradients, buffers, sums

    shared_gradients_of = jax.shard_map(
        gradients_of,
        mesh=devices,
        in_specs=(_WHOLE, _HISTORY, _SECOND_BY_TEXT, _PADDED, _BY_TEXT, _BY_TEXT),
        out_specs=(_WHOLE, _HISTORY, _WHOLE),
        check_vma=False,
    )

    def step(state: Any, buffers: History, texts: Padded, classes: Array, weights: Array) -> Any:
        trained, moments, averages = state
        done = moments[0]  # Keras's optimizers count their steps in their first variable
        # the number of the step is part of the state, so a resumed training draws the same masks
        mask = _drawn_mask(jax.random.fold_in(jax.random.key(seed), done), shape, classes.size)
        gradients, buffers, sums = shared_gradients_of(trained, buffers, mask, texts, classes, weights)
        # by the number of texts on both devices: the mean over the whole batch, whatever fills it up
        gradients = [part / sums[-1] for part in gradients]
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        kept = jnp.minimum(average, (1 + done) / (10 + done))  # early on the old is hardly worth keeping
        if averages:
            averages = [kept * old + (1 - kept) * new for old, new in zip(averages, trained, strict=True)]
        return (trained, moments, averages), buffers, sums

    # state and history are given away: the new ones take their memory
    return jax.jit(step, donate_argnums=(0, 1))


def _drawn_mask(key: Array, shape: NetworkShape, texts: int) -> Array:
    """Return factors [4, texts, embedding + units]: spatial dropout and the LSTM's of words, and of states.

    As in Keras each gate has its own mask; without recurrent dropout the gates share one.
    """
    # for the whole batch and not by each device: the draws must not depend on how a batch is divided
    rates = (shape.spatial_dropout, shape.dropout, shape.recurrent_dropout)
    gates = 4 if shape.recurrent_dropout else 1
    shapes = (texts, shape.embedding), (gates, texts, shape.embedding), (4, texts, shape.units)
    keys = jax.random.split(key, len(rates))
    spatial, given, states = (
        jax.random.bernoulli(own, 1 - rate, size) / (1 - rate)
        for own, rate, size in zip(keys, rates, shapes, strict=True)
    )
    words = jnp.broadcast_to(spatial * given, (4, texts, shape.embedding))
    return jnp.concatenate([words, states], axis=-1)
