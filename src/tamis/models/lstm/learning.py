"""Learns the weights of a network: steps of Adam over batches of like length, the best epoch kept.

Knows arrays of tokens and classes; does not know texts or labels' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.models.lstm.checkpoint import read_checkpoint, write_checkpoint
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

    widths:      batches are padded to one of these lengths; the last holds any text
    left:        zeros stand before the text, for a network that reads them
    patience:    stop when the validation loss has not improved for so many epochs
    average:     a moving average of the weights counts, this share of the old kept at a step; 0 for none
    checkpoint:  the file that holds all of it after each epoch, and from which it goes on; None keeps nothing
    """

    epochs: int
    batch: int
    widths: tuple[int, ...]
    left: bool
    learning_rate: float
    patience: int
    average: float
    seed: int
    checkpoint: Path | None = None


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
    epoch so far; before the first one is complete it is passed on. Where `course.checkpoint` is the
    file of the same work, it goes on from there to the same bits.
    """
    steps = _Steps(network, course)
    rng = np.random.default_rng(course.seed)
    learned = _go_on(course.checkpoint, steps, rng)
    if learned.history:
        notice(f"going on after epoch {len(learned.history)} of {course.epochs}")
    try:
        for epoch in range(len(learned.history) + 1, course.epochs + 1):
            if epoch - learned.best_epoch > course.patience:
                break
            title = f"epoch {epoch} of {course.epochs}"
            watch = _Watch(progress, notice, title, before=epoch - 1, epochs=course.epochs)
            figures = steps.run_epoch(list(_shuffled_batches(training, course, rng)), watch)
            figures |= _validate(steps, validation, course)
            _take(figures, steps, learned)
            notice(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
            if course.checkpoint:
                _keep(course.checkpoint, steps, rng, learned)
    except KeyboardInterrupt:
        if not learned.weights:
            raise
        epoch = min(len(learned.history) + 1, course.epochs)
        notice(f"stopped in epoch {epoch} of {course.epochs}; the best epoch so far is kept")
        learned.interrupted = True
    progress(1, 1)
    return learned


def _take(figures: dict[str, float], steps: _Steps, learned: Learned) -> None:
    """Add an epoch's figures, and its weights where it is the best so far."""
    if not np.isfinite(list(figures.values())).all():
        raise TrainingError("the loss is no longer a finite number: lower learning_rate")
    best = learned.history[learned.best_epoch - 1].get("validation loss", 0) if learned.history else np.inf
    if figures.get("validation loss", 0) <= best:
        learned.weights, learned.best_epoch = steps.weights(), len(learned.history) + 1
    learned.history.append(figures)


def _keep(checkpoint: Path, steps: _Steps, rng: np.random.Generator, learned: Learned) -> None:
    arrays = {f"state {place}": array for place, array in enumerate(steps.arrays())}
    if learned.best_epoch < len(learned.history):  # otherwise the best weights are those of the state
        arrays |= {f"best {place}": array for place, array in enumerate(learned.weights)}
    random = rng.bit_generator.state
    facts = {"history": learned.history, "best_epoch": learned.best_epoch, "random": random}
    write_checkpoint(checkpoint, arrays, facts)


def _go_on(checkpoint: Path | None, steps: _Steps, rng: np.random.Generator) -> Learned:
    """Put everything where the checkpoint says that it was; return what had been learned by then."""
    kept = read_checkpoint(checkpoint) if checkpoint else None
    if kept is None:
        return Learned([])
    arrays, facts = kept
    steps.put(_numbered(arrays, "state"))
    rng.bit_generator.state = facts["random"]
    weights = _numbered(arrays, "best") or steps.weights()
    return Learned(weights, history=facts["history"], best_epoch=facts["best_epoch"])


def _numbered(arrays: dict[str, Any], name: str) -> list[Any]:
    count = sum(key.startswith(f"{name} ") for key in arrays)
    return [arrays[f"{name} {place}"] for place in range(count)]


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

    def __init__(self, network: Any, course: Course):
        optimizer = keras.optimizers.Adam(course.learning_rate)
        optimizer.build(network.trainable_variables)
        self._state = tuple(
            [jnp.array(variable.value) for variable in variables]  # copies: a step gives its input away
            for variables in (
                network.trainable_variables,
                network.non_trainable_variables,
                optimizer.variables,
                network.trainable_variables if course.average else [],
            )
        )
        self._step = _training_step(network, optimizer, course.average)
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
    for width, places in _by_width(examples.sequences, _widths_for(examples.sequences, course)):
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


def _widths_for(sequences: Sequences, course: Course) -> tuple[int, ...]:
    """Return the course's widths up to the longest text, which is padded no further unless zeros are read."""
    longest = max(1, lengths_of(sequences).max())
    return course.widths if course.left else (*(w for w in course.widths if w < longest), int(longest))


def _by_width(sequences: Sequences, widths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Yield each width that is needed, with the places of the texts that fit no smaller one."""
    bucket_of = np.searchsorted(widths, lengths_of(sequences))
    for bucket, width in enumerate(widths):
        places = np.flatnonzero(bucket_of == bucket)
        if places.size:
            yield width, places
