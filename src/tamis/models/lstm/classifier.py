"""Learns an LSTM over words with Keras on JAX, and exports it as an ONNX graph.

Knows texts and labels; the network, its learning and its graph are next door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.models.base import Calibration, Logits, TrainableClassifier
from tamis.models.lstm.keras_on_jax import prepare_keras
from tamis.models.lstm.learning import Classes, Course, Examples, Learned, learn, predict
from tamis.models.lstm.network import Shape, build_network
from tamis.models.lstm.tokenizer import Tokenizer
from tamis.models.onnx_graph.build import build_onnx, describe_input
from tamis.models.onnx_graph.layers import Dense, Embedding, Lstm, Network
from tamis.records import Notice, Progress, no_notice, no_progress


class LstmClassifier(TrainableClassifier):
    """Embedding, spatial dropout, LSTM and softmax over the words of a text.

    words:        size of the vocabulary, counting the 0 that stands for no word
    max_tokens:   of longer texts the last so many known words are read
    mask:         padding is no part of a text; without it the network reads zeros up to `max_tokens`
    buckets:      lengths to which batches are padded, ascending, before `max_tokens`
    epochs:       at most; fewer when the validation loss has not improved for `patience` epochs
    validation:   share of the texts kept aside to choose the epoch by; with 0 all are learned
    class_weight: "balanced" weighs classes by the inverse of their frequency
    """

    kind: ClassVar[str] = "lstm"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "keras", "jax", "jaxlib", "onnx")
    slow: ClassVar[bool] = True

    tokenizer_: Tokenizer
    weights_: list[npt.NDArray[np.float32]]
    history_: list[dict[str, float]]

    def __init__(  # noqa: PLR0913 - hyper-parameters, each by name
        self,
        *,
        words: int = 10_000,
        max_tokens: int = 300,
        mask: bool = True,
        embedding: int = 128,
        units: int = 196,
        spatial_dropout: float = 0.4,
        dropout: float = 0.3,
        recurrent_dropout: float = 0.3,
        batch: int = 32,
        buckets: str = "16,40",
        epochs: int = 12,
        patience: int = 2,
        validation: float = 0.1,
        learning_rate: float = 0.001,
        class_weight: Literal["balanced", "none"] = "balanced",
        seed: int = 42,
    ):
        for name in ("words", "max_tokens", "embedding", "units", "batch", "epochs", "patience"):
            _check_at_least_one(name, locals()[name])
        for name in ("spatial_dropout", "dropout", "recurrent_dropout", "validation"):
            _check_share(name, locals()[name])
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
        self.widths = _widths(buckets, max_tokens) if mask else (max_tokens,)
        self.epochs = epochs
        self.patience = patience
        self.validation = validation
        self.learning_rate = learning_rate
        self.class_weight = class_weight
        self.seed = seed

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        progress: Progress = no_progress,
        notice: Notice = no_notice,
    ) -> Self:
        """Learn; see `TrainableClassifier.fit`. Ctrl-C keeps the best epoch so far."""
        self.classes_ = tuple(sorted(set(labels)))
        if len(self.classes_) < 2:
            raise TrainingError(f"training needs at least two classes; there is only {list(self.classes_)}")
        prepare_keras()
        kept, aside = self._put_aside(texts)
        self.tokenizer_ = Tokenizer.fit([texts[i] for i in kept], num_words=self.words)
        if not self.tokenizer_.word_index:
            raise TrainingError("the texts hold no word; training needs more data")
        classes = np.searchsorted(self.classes_, labels)
        learned = learn(
            build_network(self._shape, activation="linear", seed=self.seed),
            self._examples(texts, classes, kept),
            self._examples(texts, classes, aside),
            self._course,
            progress,
            notice,
        )
        self._adopt(learned)
        return self

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits."""
        network = self.network(activation="linear")
        sequences = self.tokenizer_.sequences(texts, max_tokens=self.max_tokens)
        n_classes = len(self.classes_)
        return predict(network, sequences, widths=self.widths, left=not self.mask, n_classes=n_classes)

    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write `model.onnx` with the calibration in it, `tokenizer.json` and `network.json`."""
        network = self._arrays(calibration)
        (folder / "model.onnx").write_bytes(build_onnx(network))
        (folder / "tokenizer.json").write_bytes(self.tokenizer_.to_json())
        (folder / "network.json").write_text(self.network().to_json() + "\n", encoding="utf-8")
        return describe_input(network)

    def summary(self) -> str:
        """Return the layers with their kinds and numbers of parameters, and the sum."""
        network = self.network()
        rows = [
            (layer.name, type(layer).__name__, str(layer.output.shape), layer.count_params())
            for layer in network.layers
        ]
        rows.append(("all", "", "", network.count_params()))
        return "\n".join(f"{name:<16} {kind:<17} {shape:<20} {n:>10,}" for name, kind, shape, n in rows)

    def network(self, *, activation: str = "softmax") -> Any:
        """Return the trained network as a `keras.Sequential`, without the calibration."""
        network = build_network(self._shape, activation=activation, seed=self.seed)
        network.set_weights(self.weights_)
        return network

    @property
    def _shape(self) -> Shape:
        return Shape(
            words=self.tokenizer_.largest_number + 1,
            classes=len(self.classes_),
            embedding=self.embedding,
            units=self.units,
            spatial_dropout=self.spatial_dropout,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            mask=self.mask,
        )

    @property
    def _course(self) -> Course:
        return Course(
            epochs=self.epochs,
            batch=self.batch,
            widths=self.widths,
            left=not self.mask,
            learning_rate=self.learning_rate,
            patience=self.patience,
            seed=self.seed,
        )

    def _adopt(self, learned: Learned) -> None:
        self.weights_ = learned.weights
        self.history_ = learned.history
        self.interrupted_ = learned.interrupted

    def _put_aside(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the places to learn from and those to validate on; equal words stay together."""
        words = Tokenizer.fit([], num_words=1).words
        of_text = [" ".join(words(text)) for text in texts]
        distinct = sorted(set(of_text))
        order = np.random.default_rng(self.seed).permutation(len(distinct))
        chosen = {distinct[i] for i in order[: int(self.validation * len(distinct))]}
        places = range(len(texts))
        return [i for i in places if of_text[i] not in chosen], [i for i in places if of_text[i] in chosen]

    def _examples(self, texts: Sequence[str], classes: Classes, places: list[int]) -> Examples:
        sequences = self.tokenizer_.sequences([texts[i] for i in places], max_tokens=self.max_tokens)
        counts = np.bincount(classes, minlength=len(self.classes_))
        weight_of = counts.sum() / (counts.size * counts)
        weighed = weight_of if self.class_weight == "balanced" else np.ones(counts.size)
        return Examples(sequences, classes[places], weighed[classes[places]])

    def _arrays(self, calibration: Calibration) -> Network:
        embedding, kernel, recurrent, bias, dense_kernel, dense_bias = self.weights_
        scaled = (dense_kernel * calibration.scale).astype(np.float32)
        shifted = (dense_bias * calibration.scale + np.asarray(calibration.bias)).astype(np.float32)
        return Network(
            Embedding(embedding, masked=self.mask),
            (Lstm(kernel, recurrent, bias), Dense(scaled, shifted, "softmax")),
            self.max_tokens,
        )


def _widths(buckets: str, max_tokens: int) -> tuple[int, ...]:
    numbers = [number.strip() for number in buckets.split(",") if number.strip()]
    if not all(number.isascii() and number.isdigit() and int(number) > 0 for number in numbers):
        raise ValueError(f"buckets must be lengths such as 16,40: {buckets}")
    return (*sorted({int(number) for number in numbers if int(number) < max_tokens}), max_tokens)


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1: {value}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be from 0 up to, but not including, 1: {value}")
