"""The variables of a network, and the compiled programs that learn and answer with them.

Knows batches of tokens; does not know epochs, validation or where texts come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from tamis.models.lstm.keras_on_jax import jax, keras
from tamis.models.lstm.padding import Tokens, lengths_of, pad
from tamis.models.lstm.tokenizer import Sequences

_PREDICTED_TEXTS = 64

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Batch:
    """Texts of one width; one that weighs 0 only fills it up."""

    tokens: Tokens
    classes: Classes
    weights: npt.NDArray[np.float32]


def predict(
    network: Any, sequences: Sequences, *, widths: Sequence[int], left: bool, n_classes: int
) -> Floats:
    """Return [texts, classes] what the network gives, in double precision."""
    forward = _forward(network)
    state = [variable.value for variable in network.trainable_variables]
    other = [variable.value for variable in network.non_trainable_variables]
    return _predict(lambda tokens: forward(state, other, tokens), sequences, widths, left, n_classes)


class Steps:
    """The variables of a network while it learns, and the compiled steps that change them."""

    def __init__(self, network: Any, *, learning_rate: float, average: float):
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(network.trainable_variables)
        self._state = tuple(
            [jnp.array(variable.value) for variable in variables]  # copies: a step gives its input away
            for variables in (
                network.trainable_variables,
                network.non_trainable_variables,
                optimizer.variables,
                network.trainable_variables if average else [],
            )
        )
        self._step = _training_step(network, optimizer, average)
        self._forward = _forward(network)
        self._n_classes: int = network.output_shape[-1]

    def run_epoch(self, batches: list[Batch], watch: Callable[[int, int, Floats], None]) -> dict[str, float]:
        """Take one step a batch; return the loss and the accuracy, with dropout, over the epoch.

        `watch` is told how many are done, of how many, and the sums of loss, correct answers and texts.
        """
        totals = np.zeros(3)
        for done, batch in enumerate(batches, 1):
            self._state, sums = self._step(self._state, batch.tokens, batch.classes, batch.weights)
            totals += np.asarray(sums)
            watch(done, len(batches), totals)
        loss, correct, texts = totals
        return {"loss": float(loss / texts), "accuracy": float(correct / texts)}

    def logits(self, sequences: Sequences, widths: Sequence[int], *, left: bool) -> Floats:
        """Return [texts, classes] logits, without dropout."""
        counting, other = self._counting, self._state[1]
        return _predict(
            lambda tokens: self._forward(counting, other, tokens), sequences, widths, left, self._n_classes
        )

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """Return a copy of what has been learned, in Keras's order."""
        return [np.array(values) for values in self._counting]

    @property
    def _counting(self) -> Any:
        """The weights that count: their averages, where there are any."""
        trained, _, _, averages = self._state
        return averages or trained

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Return all that the next step depends on: weights, seeds of dropout, moments, averages."""
        return [np.array(values) for values in jax.tree.leaves(self._state)]

    def put(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Go back to what `arrays` returned."""
        self._state = jax.tree.unflatten(jax.tree.structure(self._state), map(jnp.array, arrays))


def _training_step(network: Any, optimizer: Any, average: float) -> Callable[..., Any]:
    def loss_of(trained: Any, other: Any, tokens: Any, classes: Any, weights: Any) -> Any:
        logits, other = network.stateless_call(trained, other, tokens, training=True)
        chances = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(chances, classes[:, None], axis=1)[:, 0] * weights
        texts = jnp.count_nonzero(weights)
        correct = ((logits.argmax(axis=1) == classes) & (weights > 0)).sum()
        return losses.sum() / texts, (other, jnp.stack([losses.sum(), correct, texts]))

    gradients_of = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: Any, tokens: Any, classes: Any, weights: Any) -> Any:
        trained, other, moments, averages = state
        (_, (other, sums)), gradients = gradients_of(trained, other, tokens, classes, weights)
        done = moments[0]  # Keras's optimizers count their steps in their first variable
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        kept = jnp.minimum(average, (1 + done) / (10 + done))  # early on the old is hardly worth keeping
        if averages:
            averages = [kept * old + (1 - kept) * new for old, new in zip(averages, trained, strict=True)]
        return (trained, other, moments, averages), sums

    return jax.jit(step, donate_argnums=0)


def _forward(network: Any) -> Callable[..., Any]:
    return jax.jit(
        lambda trained, other, tokens: network.stateless_call(trained, other, tokens, training=False)[0]
    )


def _predict(
    forward: Callable[[Tokens], Any], sequences: Sequences, widths: Sequence[int], left: bool, n_classes: int
) -> Floats:
    found = np.zeros((len(sequences), n_classes))
    for width, places in by_width(sequences, widths):
        for start in range(0, places.size, _PREDICTED_TEXTS):
            part = places[start : start + _PREDICTED_TEXTS]
            filled = np.resize(part, _PREDICTED_TEXTS)  # one shape a width: each new one is compiled
            tokens = pad([sequences[place] for place in filled], width=width, left=left)
            found[part] = np.asarray(forward(tokens))[: part.size]
    return found


def by_width(sequences: Sequences, widths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Yield each width that is needed, with the places of the texts that fit no smaller one."""
    bucket_of = np.searchsorted(widths, lengths_of(sequences))
    for bucket, width in enumerate(widths):
        places = np.flatnonzero(bucket_of == bucket)
        if places.size:
            yield width, places
