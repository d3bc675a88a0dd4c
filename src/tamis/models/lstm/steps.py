"""The variables of a network, and the compiled programs that learn and answer with them.

Knows batches of tokens; does not know epochs, validation or where texts come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tamis.models.lstm.keras_on_jax import jax, keras, learning_devices
from tamis.models.lstm.padding import batches_of_like_length, lengths_of, pad
from tamis.models.lstm.recurrence import (
    STRETCH_STEPS,
    Array,
    History,
    Masks,
    Padded,
    Weights,
    empty_history,
    last_states,
    last_states_to_learn,
)
from tamis.models.lstm.tokenizer import Sequences

_PREDICTED_TEXTS = 64
_LENGTH_UNIT = 64  # arrays are a multiple of so many steps long: each new length is compiled

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Padding:
    """How texts of at most `longest` words become arrays of one shape: where `left`, all of it is read.

    Otherwise zeros stand behind the text and are no part of it.
    """

    longest: int
    left: bool

    @classmethod
    def of(cls, sequences: Sequences, *, max_tokens: int, left: bool) -> Padding:
        """Return the padding for these texts: no further than need be, unless the zeros are read."""
        return cls(max_tokens if left else max(1, *lengths_of(sequences).tolist(), 0), left)

    @property
    def steps(self) -> int:
        """How many steps an array has."""
        unit = STRETCH_STEPS if self.left else _LENGTH_UNIT
        return _stretches(self.longest, unit) * unit

    def __call__(self, sequences: Sequences) -> Padded:
        """Return these texts as arrays."""
        tokens = pad(sequences, width=self.steps, left=self.left).T
        if self.left:
            real = np.broadcast_to(np.arange(self.steps)[:, None] >= self.steps - self.longest, tokens.shape)
        else:
            real = tokens > 0
        read = self.steps if self.left else int(lengths_of(sequences).max())
        return Padded(tokens, real, np.int32(_stretches(read, STRETCH_STEPS)))


def _stretches(steps: int, unit: int) -> int:
    return -(-steps // unit)


@dataclass(frozen=True)
class Batch:
    """Some texts; one that weighs 0 only fills it up."""

    texts: Padded
    classes: Classes
    weights: npt.NDArray[np.float32]


def rows_for(texts: int) -> int:
    """Return how many rows a batch of so many texts has: as many on each device."""
    devices = len(learning_devices())
    return _stretches(texts, devices) * devices


def predict(weights: Sequence[Array], sequences: Sequences, padding: Padding) -> Floats:
    """Return [texts, classes] logits, without dropout, by the network's `weights` in Keras's order."""
    found = np.zeros((len(sequences), weights[-1].shape[0]))
    for places in batches_of_like_length(lengths_of(sequences), most=_PREDICTED_TEXTS):
        filled = np.resize(places, _PREDICTED_TEXTS)  # always as many, or another program is compiled
        texts = padding([sequences[place] for place in filled])
        found[places] = np.asarray(_logits(list(weights), texts))[: places.size]
    return found


@jax.jit
def _logits(weights: list[Array], texts: Padded) -> Array:
    *recurrent, kernel, bias = weights
    return last_states(Weights(*recurrent), texts) @ kernel + bias


_split: Any = PartitionSpec  # it has no types, nor has what adds up
_sum_over_devices: Any = jax.lax.psum

_WHOLE, _BY_TEXT, _SECOND_BY_TEXT = _split(), _split("texts"), _split(None, "texts")
_HISTORY = History(_split(None, None, "texts"), _SECOND_BY_TEXT, _SECOND_BY_TEXT)
_MASKS = Masks(_SECOND_BY_TEXT, _SECOND_BY_TEXT)
_PADDED = Padded(_SECOND_BY_TEXT, _SECOND_BY_TEXT, _WHOLE)
"""How the devices share a batch: each has its own texts, and all that is learned."""


class Steps:
    """The variables of a network while it learns, and the compiled step that changes them.

    Keras gives the network, its first weights and the optimizer; `seed` and the number of a step
    decide what is dropped in it. Each of two processors does half of every batch: a second one gains next to
    nothing within the products of so few texts.
    """

    def __init__(self, network: Any, padding: Padding, *, learning_rate: float, average: float, seed: int):
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(network.trainable_variables)
        self._devices = Mesh(np.array(learning_devices()), ("texts",))
        self._state = self._on_devices(
            tuple(
                [np.array(variable.value) for variable in variables]  # copies: a step gives its input away
                for variables in (
                    network.trainable_variables,
                    optimizer.variables,
                    network.trainable_variables if average else [],
                )
            ),
            _WHOLE,
        )
        self._step = _training_step(network, optimizer, average, seed, self._devices)
        self._padding, self._units = padding, network.get_layer("lstm").units

    def run_epoch(self, batches: list[Batch], watch: Callable[[int, int, Floats], None]) -> dict[str, float]:
        """Take one step a batch; return the loss and the accuracy, with dropout, over the epoch.

        `watch` is told how many are done, of how many, and the sums of loss, correct answers and texts.
        """
        totals = np.zeros(3)
        room = empty_history(self._padding.steps, batches[0].classes.size, self._units)
        room = self._on_devices(room, _HISTORY)
        for done, batch in enumerate(batches, 1):
            self._state, room, sums = self._step(self._state, room, batch.texts, batch.classes, batch.weights)
            totals += np.asarray(sums)
            watch(done, len(batches), totals)
        loss, correct, texts = totals
        return {"loss": float(loss / texts), "accuracy": float(correct / texts)}

    def logits(self, sequences: Sequences, padding: Padding) -> Floats:
        """Return [texts, classes] logits, without dropout."""
        return predict(self.weights(), sequences, padding)

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """Return a copy of what has been learned, in Keras's order."""
        trained, _, averages = self._state
        return [np.array(values) for values in averages or trained]

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Return all that the next step depends on: weights, moments, averages."""
        return [np.array(values) for values in jax.tree.leaves(self._state)]

    def put(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Go back to what `arrays` returned."""
        self._state = self._on_devices(jax.tree.unflatten(jax.tree.structure(self._state), arrays), _WHOLE)

    def _on_devices(self, arrays: Any, parts: Any) -> Any:
        """Put arrays where a step leaves them: for any other place it would be compiled once more."""
        return jax.device_put(arrays, jax.tree.map(lambda part: NamedSharding(self._devices, part), parts))


def _training_step(
    network: Any, optimizer: Any, average: float, seed: int, devices: Mesh
) -> Callable[..., Any]:
    lstm = network.get_layer("lstm")
    rates = (network.get_layer("spatial_dropout").rate, lstm.dropout, lstm.recurrent_dropout)

    def loss_of(
        trained: Any, room: History, masks: Masks, texts: Padded, classes: Array, weights: Array
    ) -> Any:
        *recurrent, kernel, bias = trained
        states, room = last_states_to_learn(Weights(*recurrent), masks, texts, room)
        logits = states @ kernel + bias
        chances = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(chances, classes[:, None], axis=1)[:, 0] * weights
        counting = jnp.count_nonzero(weights)
        correct = ((logits.argmax(axis=1) == classes) & (weights > 0)).sum()
        return losses.sum(), (room, jnp.stack([losses.sum(), correct, counting]))

    def gradients_of(*of_some_texts: Any) -> Any:
        gradients, (room, sums) = jax.grad(loss_of, has_aux=True)(*of_some_texts)
        gradients, sums = _sum_over_devices((gradients, sums), "texts")
        return gradients, room, sums

    shared_gradients_of = jax.shard_map(
        gradients_of,
        mesh=devices,
        in_specs=(_WHOLE, _HISTORY, _MASKS, _PADDED, _BY_TEXT, _BY_TEXT),
        out_specs=(_WHOLE, _HISTORY, _WHOLE),
        check_vma=False,
    )

    def step(state: Any, room: History, texts: Padded, classes: Array, weights: Array) -> Any:
        trained, moments, averages = state
        done = moments[0]  # Keras's optimizers count their steps in their first variable
        key = jax.random.fold_in(jax.random.key(seed), done)
        masks = _drawn_masks(key, rates, classes.size, Weights(*trained[:-2]))
        gradients, room, sums = shared_gradients_of(trained, room, masks, texts, classes, weights)
        gradients = [gradient / sums[-1] for gradient in gradients]
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        kept = jnp.minimum(average, (1 + done) / (10 + done))  # early on the old is hardly worth keeping
        if averages:
            averages = [kept * old + (1 - kept) * new for old, new in zip(averages, trained, strict=True)]
        return (trained, moments, averages), room, sums

    return jax.jit(step, donate_argnums=(0, 1))


def _drawn_masks(key: Array, rates: tuple[float, float, float], texts: int, weights: Weights) -> Masks:
    """Return what is dropped of the words, by the spatial dropout and by the LSTM's own, and of the states.

    As in Keras each gate has masks of its own, but where no state is dropped the gates share one.
    """
    embedding, units = weights.embedding.shape[1], weights.recurrent.shape[0]
    shapes = (texts, embedding), (4 if rates[2] else 1, texts, embedding), (4, texts, units)
    keys = jax.random.split(key, len(rates))
    spatial, given, states = (
        jax.random.bernoulli(own, 1 - rate, shape) / (1 - rate)
        for own, rate, shape in zip(keys, rates, shapes, strict=True)
    )
    return Masks(jnp.broadcast_to(spatial * given, (4, texts, embedding)), states)
