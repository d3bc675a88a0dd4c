"""Trains an LSTM over words with Keras on JAX, and exports it as an ONNX graph:

    texts ──► validation part set aside ──► vocabulary ──► fit, the best epoch chosen ──► fit once more from
    all texts for as many epochs ──► model.onnx, tokenizer.json, network.json

`network` has the layers, `training_loop` the epochs, `train_step` a step, `artifact.onnx_export` the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tamis.artifact.onnx_export.build import build_onnx, describe_input
from tamis.artifact.onnx_export.layers import Dense, Embedding, Lstm, Network
from tamis.errors import TrainingError
from tamis.models.network.tokenizer import Tokenizer
from tamis.training.trainers.base import Calibration, Logits, Trainer, distinct_classes
from tamis.training.trainers.lstm.keras_backend import prepare_keras
from tamis.training.trainers.lstm.network import NetworkShape, build_network, write_keras, write_old_files
from tamis.training.trainers.lstm.train_step import Classes, Padding, predict
from tamis.training.trainers.lstm.training_loop import Examples, TrainingConfig, TrainingResult, train_network
from tamis.types import Notice, Progress, no_notice, no_progress

_POWERS = {"balanced": 1, "mild": 0.5, "none": 0}
"""A class of n texts weighs n to the power of minus this."""


@dataclass(frozen=True)
class _Texts:
    """Texts with the number of the class of each."""

    texts: Sequence[str]
    classes: Classes


@dataclass(frozen=True)
class _FitMonitor:
    """Reports the progress of one of several fits, and names the file of its checkpoint."""

    progress: Progress
    notice: Notice
    checkpoints: Path | None
    fit: int
    fits: int

    @property
    def checkpoint(self) -> Path | None:
        return self.checkpoints and self.checkpoints / f"{self.fit + 1}.safetensors"

    def progress_of_fit(self, done: int, total: int) -> None:
        self.progress(self.fit * total + done, self.fits * total)

    def notice_of_fit(self, text: str) -> None:
        self.notice(f"refit on all texts, {text}" if self.fit else text)


class LstmTrainer(Trainer):
    """Embedding, spatial dropout, LSTM and softmax over the words of a text.

    words:        size of the vocabulary, counting the 0, which is padding
    max_tokens:   of longer texts the last so many known words are read
    mask:         padding is no part of a text; without it the network reads zeros up to `max_tokens`
    buckets:      texts up to the same of these lengths are batched together; longer ones with each other
    epochs:       at most; fewer when the validation loss has not improved for `patience` epochs
    validation:   share of the texts held out to choose the epoch by; with 0 all epochs are run
    refit:        fit once more for as many epochs on all texts, the held-out ones included
    average:      the weights are a moving average over the steps, this share of the old kept; 0 for none
    class_weight: "balanced" weighs classes by the inverse of their frequency, "mild" by its square root
    """

    kind: ClassVar[str] = "lstm"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "keras", "jax", "jaxlib", "onnx")
    formats: ClassVar[tuple[str, ...]] = ("keras", "h5")
    is_slow: ClassVar[bool] = True

    tokenizer_: Tokenizer
    weights_: list[npt.NDArray[np.float32]]
    history_: list[dict[str, float]]

    def __init__(  # noqa: PLR0913 - hyper-parameters, each by name
        self,
        *,
        words: int = 10_000,
        max_tokens: int = 300,
        mask: bool = True,
        embedding: int = 64,
        units: int = 128,
        spatial_dropout: float = 0.4,
        dropout: float = 0.3,
        recurrent_dropout: float = 0.3,
        batch: int = 32,
        buckets: str = "12,24,48",
        epochs: int = 12,
        patience: int = 2,
        validation: float = 0.1,
        refit: bool = True,
        learning_rate: float = 0.001,
        average: float = 0.99,
        class_weight: Literal["balanced", "mild", "none"] = "mild",
        seed: int = 42,
    ):
        # by name through `locals`, so that a message names the setting as on the command line
        for name in ("words", "max_tokens", "embedding", "units", "batch", "epochs", "patience"):
            if (number := locals()[name]) < 1:
                raise ValueError(f"{name} must be at least 1: {number}")
        for name in ("spatial_dropout", "dropout", "recurrent_dropout", "validation", "average"):
            if not 0 <= (share := locals()[name]) < 1:
                raise ValueError(f"{name} must be from 0 up to, but not including, 1: {share}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive: {learning_rate}")
        self.words = words
        self.max_tokens = max_tokens
        self.mask = mask
        self.embedding = embedding
        self.units = units
        self.spatial_dropout = spatial_dropout
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.batch = batch
        # without a mask the zeros are read, so every text must be as wide as it will be in serving
        self.widths = _widths(buckets, max_tokens) if mask else (max_tokens,)
        self.epochs = epochs
        self.patience = patience
        self.validation = validation
        self.refit = refit
        self.learning_rate = learning_rate
        self.average = average
        self.class_weight = class_weight
        self.seed = seed

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        progress: Progress = no_progress,
        notice: Notice = no_notice,
        checkpoints: Path | None = None,
    ) -> Self:
        """Learn; see `Trainer.fit`. Ctrl-C keeps the best epoch so far."""
        self.classes_ = distinct_classes(labels)
        prepare_keras()
        examples = _Texts(texts, np.searchsorted(self.classes_, labels))
        train_rows, validation_rows = self._divide(texts)
        twice = bool(validation_rows) and self.refit
        first = _FitMonitor(progress, notice, checkpoints, fit=0, fits=1 + twice)
        tokenizer, learned = self._learn(examples, train_rows, validation_rows, self.epochs, first)
        history = learned.history
        if twice and not learned.interrupted:
            second = _FitMonitor(progress, notice, checkpoints, fit=1, fits=2)
            try:
                everything = sorted(train_rows + validation_rows)
                # for the number of epochs that was best: no text is left to choose it by
                tokenizer, learned = self._learn(examples, everything, [], learned.best_epoch, second)
                history = history + learned.history
            except KeyboardInterrupt:  # before the first epoch of the second fit is complete
                notice("stopped; the model fitted without the validation part is kept")
                learned.interrupted = True
        self.tokenizer_, self.weights_, self.history_ = tokenizer, learned.weights, history
        self.interrupted_ = learned.interrupted
        return self

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits."""
        sequences = self.tokenizer_.sequences(texts, max_tokens=self.max_tokens)
        padding = Padding.of(sequences, max_tokens=self.max_tokens, left=not self.mask)
        return predict(self.weights_, sequences, padding)

    def unknown_shares(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts] the share of each text's words that the vocabulary lacks."""
        return self.tokenizer_.unknown_shares(texts)

    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write `model.onnx` with the calibration in it, `tokenizer.json` and `network.json`."""
        network = self._arrays(calibration)
        (folder / "model.onnx").write_bytes(build_onnx(network))
        (folder / "tokenizer.json").write_bytes(self.tokenizer_.to_json())
        (folder / "network.json").write_text(self.network().to_json() + "\n", encoding="utf-8")
        return describe_input(network)

    def export_as(self, form: str, folder: Path, calibration: Calibration) -> None:
        """Write `network.keras` for "keras", and the three files of older applications for "h5"."""
        network, words = self.network(calibration=calibration), self.tokenizer_
        if form == "keras":
            write_keras(network, folder)
        elif form == "h5":
            labels, max_tokens = self.classes_, self.max_tokens
            write_old_files(network, folder, tokenizer=words, labels=labels, max_tokens=max_tokens)
        else:
            super().export_as(form, folder, calibration)

    def summary(self) -> str:
        """Return the layers with their kinds and numbers of parameters, and the sum."""
        network = self.network()
        rows = [
            (layer.name, type(layer).__name__, str(layer.output.shape), layer.count_params())
            for layer in network.layers
        ]
        rows.append(("all", "", "", network.count_params()))
        return "\n".join(f"{name:<16} {kind:<17} {shape:<20} {n:>10,}" for name, kind, shape, n in rows)

    def network(self, *, calibration: Calibration | None = None) -> Any:
        """Return the trained network as a `keras.Sequential`, the calibration in its last layer."""
        network = build_network(self._shape(self.tokenizer_), activation="softmax", seed=self.seed)
        network.set_weights([*self.weights_[:-2], *self._last_layer(calibration)])
        return network

    def _learn(
        self, examples: _Texts, rows: list[int], validation_rows: list[int], epochs: int, watch: _FitMonitor
    ) -> tuple[Tokenizer, TrainingResult]:
        """Learn vocabulary and weights from the texts at `rows`; `validation_rows` choose the epoch."""
        # of these texts alone: words of the validation part must be as unknown as those of a served text
        tokenizer = Tokenizer.fit([examples.texts[i] for i in rows], num_words=self.words)
        if not tokenizer.word_index:
            raise TrainingError("the texts hold no word; training needs more data")
        config = TrainingConfig(
            epochs=epochs,
            batch=self.batch,
            widths=self.widths,
            left=not self.mask,
            learning_rate=self.learning_rate,
            patience=self.patience,
            average=self.average,
            seed=self.seed,
            checkpoint=watch.checkpoint,
        )
        learned = train_network(
            self._shape(tokenizer),
            self._examples(examples, tokenizer, rows),
            self._examples(examples, tokenizer, validation_rows),
            config,
            watch.progress_of_fit,
            watch.notice_of_fit,
        )
        return tokenizer, learned

    def _shape(self, tokenizer: Tokenizer) -> NetworkShape:
        return NetworkShape(
            words=tokenizer.largest_number + 1,
            classes=len(self.classes_),
            embedding=self.embedding,
            units=self.units,
            spatial_dropout=self.spatial_dropout,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            mask=self.mask,
        )

    def _divide(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the indices of the texts to train on and those to validate on; equal words stay together."""
        # a text with the same words as one that is trained on would make any epoch look good
        words = Tokenizer.fit([], num_words=1).words
        of_text = [" ".join(words(text)) for text in texts]
        distinct = sorted(set(of_text))  # the order of a set of strings differs from process to process
        order = np.random.default_rng(self.seed).permutation(len(distinct))
        chosen = {distinct[i] for i in order[: int(self.validation * len(distinct))]}
        rows = range(len(texts))
        return [i for i in rows if of_text[i] not in chosen], [i for i in rows if of_text[i] in chosen]

    def _examples(self, examples: _Texts, tokenizer: Tokenizer, rows: list[int]) -> Examples:
        texts = [examples.texts[i] for i in rows]
        classes = examples.classes[rows]
        # of all texts, so that a class weighs the same in training and in validation
        counts = np.bincount(examples.classes, minlength=len(self.classes_))
        weight_of = counts.astype(np.float64) ** -_POWERS[self.class_weight]
        mean = weight_of @ counts / counts.sum()  # of a text: weights leave the size of steps as it is
        sequences = tokenizer.sequences(texts, max_tokens=self.max_tokens)
        return Examples(sequences, classes, (weight_of / mean)[classes])

    def _arrays(self, calibration: Calibration) -> Network:
        embedding, kernel, recurrent, bias = self.weights_[:-2]
        return Network(
            Embedding(embedding, masked=self.mask),
            (Lstm(kernel, recurrent, bias), Dense(*self._last_layer(calibration), "softmax")),
            self.max_tokens,
        )

    def _last_layer(
        self, calibration: Calibration | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return kernel and bias of the last layer, calibrated."""
        kernel, bias = self.weights_[-2:]
        if calibration is None:
            return kernel, bias
        # scale · (x · kernel + bias) + shift is another linear layer: serving has no step for it
        shifted = bias * calibration.scale + np.asarray(calibration.bias)
        return (kernel * calibration.scale).astype(np.float32), shifted.astype(np.float32)


def _widths(buckets: str, max_tokens: int) -> tuple[int, ...]:
    numbers = [number.strip() for number in buckets.split(",") if number.strip()]
    if not all(number.isascii() and number.isdigit() and int(number) > 0 for number in numbers):
        raise ValueError(f"buckets must be lengths such as 12,24,48: {buckets}")
    return (*sorted({int(number) for number in numbers if int(number) < max_tokens}), max_tokens)
