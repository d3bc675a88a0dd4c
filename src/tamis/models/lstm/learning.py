"""Learns the weights of a network: steps of Adam over batches of like length, the best epoch kept.

Knows arrays of tokens and classes; does not know texts or labels' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from tamis.models.lstm.keras_on_jax import jax, keras
from tamis.models.lstm.padding import Tokens, lengths_of, pad
from tamis.models.lstm.tokenizer import Sequences
from tamis.records import Notice, Progress

_PREDICTED_TEXTS = 64
_STEPS_BETWEEN_NOTICES = 8

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Examples:
    """Texts as numbers, the class of each, and how much each counts."""

    sequences: Sequences
    classes: Classes
    weights: Floats


@dataclass(frozen=True)
class Course:
    """How long to learn, and in what portions.

    widths:    batches are padded to one of these lengths; the last holds the longest text
    left:      zeros stand before the text, for a network that reads them
    patience:  stop when the validation loss has not improved for so many epochs
    """

    epochs: int
    batch: int
    widths: tuple[int, ...]
    left: bool
    learning_rate: float
    patience: int
    seed: int


@dataclass
class Learned:
    """What came out: the weights of the best epoch, whether the user stopped it, the figures by epoch."""

    weights: list[npt.NDArray[np.float32]]
    interrupted: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


@dataclass(frozen=True)
class _Batch:
    tokens: Tokens
    classes: Classes
    weights: npt.NDArray[np.float32]


def learn(
    network: Any, training: Examples, validation: Examples, course: Course, progress: Progress, notice: Notice
) -> Learned:
    """Teach `network`, which gives logits; its own weights change on the way and are of no use after.

    Without validation examples every epoch is run and the last one counts. Ctrl-C keeps the best
    epoch so far; before the first one is complete it is passed on.
    """
    steps = _Steps(network, course.learning_rate)
    best, learned = np.inf, Learned([])
    rng = np.random.default_rng(course.seed)
    for epoch in range(1, course.epochs + 1):
        title = f"epoch {epoch} of {course.epochs}"
        watch = _Watch(progress, notice, title, before=epoch - 1, epochs=course.epochs)
        try:
            figures = steps.run_epoch(list(_shuffled_batches(training, course, rng)), watch)
            figures |= _validate(steps, validation, course)
        except KeyboardInterrupt:
            if not learned.weights:
                raise
            notice(f"stopped in {title}; the best epoch so far is kept")
            learned.interrupted = True
            break
        learned.history.append(figures)
        notice(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if (loss := figures.get("validation loss", -np.inf)) <= best:
            best, learned.weights, learned.best_epoch = loss, steps.weights(), epoch
        if epoch - learned.best_epoch >= course.patience:
            break
    progress(1, 1)
    return learned


def predict(
    network: Any, sequences: Sequences, *, widths: Sequence[int], left: bool, n_classes: int
) -> Floats:
    """Return [texts, classes] what the network gives, in double precision."""
    forward = _forward(network)
    state = [variable.value for variable in network.trainable_variables]
    other = [variable.value for variable in network.non_trainable_variables]
    return _predict(lambda tokens: forward(state, other, tokens), sequences, widths, left, n_classes)


@dataclass(frozen=True)
class _Watch:
    """Tells the caller how far one epoch is."""

    progress: Progress
    notice: Notice
    title: str
    before: int
    epochs: int

    def __call__(self, done: int, batches: int, totals: Floats) -> None:
        self.progress(self.before * batches + done, self.epochs * batches)
        if done % _STEPS_BETWEEN_NOTICES == 0 or done == batches:
            loss, correct, texts = totals
            self.notice(f"{self.title}: loss {loss / texts:.4f}, accuracy {correct / texts:.4f}")


class _Steps:
    """The variables of a network while it learns, and the compiled steps that change them."""

    def __init__(self, network: Any, learning_rate: float):
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(network.trainable_variables)
        self._state = tuple(
            [jnp.array(variable.value) for variable in variables]  # copies: a step gives its input away
            for variables in (
                network.trainable_variables,
                network.non_trainable_variables,
                optimizer.variables,
            )
        )
        self._step = _training_step(network, optimizer)
        self._forward = _forward(network)
        self._n_classes: int = network.output_shape[-1]

    def run_epoch(self, batches: list[_Batch], watch: _Watch) -> dict[str, float]:
        """Take one step a batch; return the loss and the accuracy, with dropout, over the epoch."""
        totals = np.zeros(3)
        for done, batch in enumerate(batches, 1):
            self._state, sums = self._step(self._state, batch.tokens, batch.classes, batch.weights)
            totals += np.asarray(sums)
            watch(done, len(batches), totals)
        loss, correct, texts = totals
        return {"loss": float(loss / texts), "accuracy": float(correct / texts)}

    def logits(self, sequences: Sequences, widths: Sequence[int], *, left: bool) -> Floats:
        """Return [texts, classes] logits, without dropout."""
        trained, other, _ = self._state
        return _predict(
            lambda tokens: self._forward(trained, other, tokens), sequences, widths, left, self._n_classes
        )

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """Return a copy of what has been learned, in Keras's order."""
        return [np.array(values) for values in self._state[0]]


def _training_step(network: Any, optimizer: Any) -> Callable[..., Any]:
    def loss_of(trained: Any, other: Any, tokens: Any, classes: Any, weights: Any) -> Any:
        logits, other = network.stateless_call(trained, other, tokens, training=True)
        chances = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(chances, classes[:, None], axis=1)[:, 0] * weights
        texts = jnp.count_nonzero(weights)
        correct = ((logits.argmax(axis=1) == classes) & (weights > 0)).sum()
        return losses.sum() / texts, (other, jnp.stack([losses.sum(), correct, texts]))

    gradients_of = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: Any, tokens: Any, classes: Any, weights: Any) -> Any:
        trained, other, moments = state
        (_, (other, sums)), gradients = gradients_of(trained, other, tokens, classes, weights)
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return (trained, other, moments), sums

    return jax.jit(step, donate_argnums=0)


def _forward(network: Any) -> Callable[..., Any]:
    return jax.jit(
        lambda trained, other, tokens: network.stateless_call(trained, other, tokens, training=False)[0]
    )


def _predict(
    forward: Callable[[Tokens], Any], sequences: Sequences, widths: Sequence[int], left: bool, n_classes: int
) -> Floats:
    found = np.zeros((len(sequences), n_classes))
    for width, places in _by_width(sequences, widths):
        for start in range(0, places.size, _PREDICTED_TEXTS):
            part = places[start : start + _PREDICTED_TEXTS]
            filled = np.resize(part, _PREDICTED_TEXTS)  # one shape a width: each new one is compiled
            tokens = pad([sequences[place] for place in filled], width=width, left=left)
            found[part] = np.asarray(forward(tokens))[: part.size]
    return found


def _validate(steps: _Steps, validation: Examples, course: Course) -> dict[str, float]:
    if not validation.sequences:
        return {}
    logits = steps.logits(validation.sequences, course.widths, left=course.left)
    chances = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    losses = -chances[np.arange(len(logits)), validation.classes]
    correct = logits.argmax(axis=1) == validation.classes
    return {"validation loss": float(losses.mean()), "validation accuracy": float(correct.mean())}


def _shuffled_batches(examples: Examples, course: Course, rng: np.random.Generator) -> Iterator[_Batch]:
    """Yield each text once, in batches of one width; what fills up the last of a width weighs nothing."""
    batches = []
    for width, places in _by_width(examples.sequences, course.widths):
        order = rng.permutation(places)
        batches += [
            (width, order[start : start + course.batch]) for start in range(0, order.size, course.batch)
        ]
    for index in rng.permutation(len(batches)):
        width, places = batches[index]
        filled = np.resize(places, course.batch)
        weights = np.where(np.arange(course.batch) < places.size, examples.weights[filled], 0)
        tokens = pad([examples.sequences[place] for place in filled], width=width, left=course.left)
        yield _Batch(tokens, examples.classes[filled], weights.astype(np.float32))


def _by_width(sequences: Sequences, widths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Yield each width that is needed, with the places of the texts that fit no smaller one."""
    bucket_of = np.searchsorted(widths, lengths_of(sequences))
    for bucket, width in enumerate(widths):
        places = np.flatnonzero(bucket_of == bucket)
        if places.size:
            yield width, places
