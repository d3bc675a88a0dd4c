"""The training loop of a network, and its checkpoints.

    resume ──► epoch: shuffled batches of similar length ──► validation ──► best so far? ──► checkpoint ──┐
                 ▲                                                                                        │
                 └───────── until all epochs are done, `patience` is over, or Ctrl-C is pressed ◄─────────┘

A checkpoint has the whole state: a training that was killed resumes from it, to the same bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.errors import TrainingError
from tamis.models.network.tokenizer import Sequences, lengths_of
from tamis.training.trainers.lstm.network import NetworkShape
from tamis.training.trainers.lstm.train_step import (
    Classes,
    Floats,
    Padding,
    TrainingBatch,
    TrainState,
    rows_for,
)
from tamis.types import Notice, Progress

_STEPS_BETWEEN_NOTICES = 8  # a step takes some milliseconds: a line for each could not be read


@dataclass(frozen=True)
class Examples:
    """Texts as numbers of words, with the class and the weight of each."""

    sequences: Sequences
    classes: Classes
    weights: Floats


@dataclass(frozen=True)
class TrainingConfig:
    """Epochs, batches and the optimizer's settings.

    widths:      texts up to the same of these lengths are batched together; the last holds any text
    left:        zeros are put before the text up to the last width, for a network without a mask
    patience:    stop when the validation loss has not improved for so many epochs
    average:     decay of the moving average of the weights; 0 for none
    checkpoint:  file with the whole state after each epoch, to resume from; None keeps nothing
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
class TrainingResult:
    """The weights of the best epoch, whether the user stopped training, the metrics of each epoch."""

    weights: list[npt.NDArray[np.float32]]
    interrupted: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def train_network(
    shape: NetworkShape,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    progress: Progress,
    notice: Notice,
) -> TrainingResult:
    """Train a new network of this shape.

    Without validation examples every epoch is run and the last one is kept. Ctrl-C keeps the best epoch
    so far; before the first one is complete it is raised. If `config.checkpoint` exists, training resumes
    from it, to the same bits.
    """
    padding = _padding(training.sequences, config)
    steps = TrainState(
        shape, padding, learning_rate=config.learning_rate, average=config.average, seed=config.seed
    )
    rng = np.random.default_rng(config.seed)
    # the generator goes on where the checkpoint left it, so a resumed training draws the same batches
    learned = _resume(config.checkpoint, steps, rng)
    if learned.history:
        notice(f"resuming after epoch {len(learned.history)} of {config.epochs}")
    try:
        for epoch in range(len(learned.history) + 1, config.epochs + 1):
            if epoch - learned.best_epoch > config.patience:
                break
            title = f"epoch {epoch} of {config.epochs}"
            watch = _EpochMonitor(progress, notice, title, before=epoch - 1, epochs=config.epochs)
            metrics = steps.run_epoch(list(_shuffled_batches(training, config, padding, rng)), watch)
            metrics |= _validate(steps, validation, config)
            _record_epoch(metrics, steps, learned)
            notice(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            if config.checkpoint:
                _save_checkpoint(config.checkpoint, steps, rng, learned)
    except KeyboardInterrupt:
        if not learned.weights:  # nothing to save
            raise
        epoch = min(len(learned.history) + 1, config.epochs)
        notice(f"stopped in epoch {epoch} of {config.epochs}; the best epoch so far is kept")
        learned.interrupted = True
    progress(1, 1)
    return learned


def _record_epoch(metrics: dict[str, float], steps: TrainState, learned: TrainingResult) -> None:
    """Add an epoch's metrics, and its weights if it is the best so far."""
    if not np.isfinite(list(metrics.values())).all():
        raise TrainingError("the loss is no longer a finite number: lower learning_rate")
    # without validation every loss counts as 0, so that each epoch replaces the one before
    best = learned.history[learned.best_epoch - 1].get("validation loss", 0) if learned.history else np.inf
    if metrics.get("validation loss", 0) <= best:
        learned.weights, learned.best_epoch = steps.weights(), len(learned.history) + 1
    learned.history.append(metrics)


def _save_checkpoint(
    checkpoint: Path, steps: TrainState, rng: np.random.Generator, learned: TrainingResult
) -> None:
    arrays = {f"state {number}": array for number, array in enumerate(steps.arrays())}
    if learned.best_epoch < len(learned.history):  # otherwise the best weights are those of the state
        arrays |= {f"best {number}": array for number, array in enumerate(learned.weights)}
    # the order of the next epochs' batches: without it a resumed training would learn other bits
    random = rng.bit_generator.state
    facts = {"history": learned.history, "best_epoch": learned.best_epoch, "random": random}
    write_checkpoint(checkpoint, arrays, facts)


def _resume(checkpoint: Path | None, steps: TrainState, rng: np.random.Generator) -> TrainingResult:
    """Restore the state from the checkpoint; return the result so far."""
    kept = read_checkpoint(checkpoint) if checkpoint else None
    if kept is None:
        return TrainingResult([])
    arrays, facts = kept
    steps.put(_numbered(arrays, "state"))
    rng.bit_generator.state = facts["random"]
    weights = _numbered(arrays, "best") or steps.weights()
    return TrainingResult(weights, history=facts["history"], best_epoch=facts["best_epoch"])


def _numbered(arrays: dict[str, Any], name: str) -> list[Any]:
    count = sum(key.startswith(f"{name} ") for key in arrays)
    return [arrays[f"{name} {number}"] for number in range(count)]


@dataclass(frozen=True)
class _EpochMonitor:
    """Reports the progress of one epoch."""

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


def _validate(steps: TrainState, validation: Examples, config: TrainingConfig) -> dict[str, float]:
    if not validation.sequences:
        return {}
    logits = steps.logits(validation.sequences, _padding(validation.sequences, config))
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    # without class weights: the epoch is chosen by the loss of the probabilities that will be served
    losses = -log_probabilities[np.arange(len(logits)), validation.classes]
    correct = logits.argmax(axis=1) == validation.classes
    return {"validation loss": float(losses.mean()), "validation accuracy": float(correct.mean())}


def _shuffled_batches(
    examples: Examples, config: TrainingConfig, padding: Padding, rng: np.random.Generator
) -> Iterator[TrainingBatch]:
    """Yield each text once, in batches of one width; texts that fill up a batch have weight 0."""
    batches = []
    # shuffled within each width, and then the batches: short texts are not all learned before long ones
    bucket_of = np.searchsorted(config.widths, lengths_of(examples.sequences))  # the smallest that fits
    for bucket in np.unique(bucket_of):
        order = rng.permutation(np.flatnonzero(bucket_of == bucket))
        batches += [order[start : start + config.batch] for start in range(0, order.size, config.batch)]
    rows = rows_for(config.batch)
    for number in rng.permutation(len(batches)):
        indices = batches[number]
        # always as many rows, because a program is compiled for each shape
        filled = np.resize(indices, rows)
        weights = np.where(np.arange(rows) < indices.size, examples.weights[filled], 0)
        texts = padding([examples.sequences[index] for index in filled])
        yield TrainingBatch(texts, examples.classes[filled], weights.astype(np.float32))


def _padding(sequences: Sequences, config: TrainingConfig) -> Padding:
    return Padding.of(sequences, max_tokens=config.widths[-1], left=config.left)


Arrays = Mapping[str, npt.NDArray[Any]]

_LAYOUT = "3"
"""To be raised with each change of the contents: a checkpoint with another layout is refused."""


def write_checkpoint(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Replace the file by one with these arrays and facts, which JSON can represent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a training that is killed while it writes must still have the checkpoint of the epoch before
    unfinished = path.with_suffix(".part")
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with unfinished.open("wb") as file:
        file.write(safetensors.numpy.save(whole, {"layout": _LAYOUT, "facts": json.dumps(facts)}))
        file.flush()
        os.fsync(file.fileno())  # a name that leads to a half-written file would be worse than an old one
    unfinished.replace(path)


def read_checkpoint(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
    """Return arrays and facts; None if there is no such file. Raises TrainingError for an unusable one."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            if file.metadata()["layout"] != _LAYOUT:
                raise ValueError("of another layout")
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no dict
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        raise TrainingError(f"{path}: cannot be read; remove it to start training again") from None
