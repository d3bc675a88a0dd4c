"""Each kind of network answers as Keras does with zeros before the text up to the full length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tamis.artifact.onnx_export.build import build_onnx, describe_input
from tamis.artifact.onnx_export.layers import (
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    GlobalPool,
    Gru,
    Layer,
    Lstm,
    Network,
    Pool,
)
from tamis.models.network.tokenizer import lengths_of, pad
from tamis.training.trainers.lstm.keras_backend import keras

WORDS, SIZE, MOST = 12, 5, 18
L = keras.layers

Kinds = tuple[Callable[[], list[Any]], Callable[[list[np.ndarray]], list[Layer]]]

RECURRENT: dict[str, Kinds] = {
    "lstm": (lambda: [L.LSTM(4)], lambda w: [Lstm(*w)]),
    "lstm without bias": (
        lambda: [L.LSTM(4, use_bias=False)],
        lambda w: [Lstm(*w, np.zeros(16, np.float32))],
    ),
    "gru": (lambda: [L.GRU(4)], lambda w: [Gru(*w)]),
    "old gru": (
        lambda: [L.GRU(4, reset_after=False)],
        lambda w: [Gru(w[0], w[1], np.stack([w[2], 0 * w[2]]), reset_after=False)],
    ),
    "two lstm": (
        lambda: [L.LSTM(4, return_sequences=True), L.LSTM(3)],
        lambda w: [Lstm(*w[:3], sequences=True), Lstm(*w[3:])],
    ),
    "gru and lstm": (
        lambda: [L.GRU(4, return_sequences=True), L.LSTM(3)],
        lambda w: [Gru(*w[:3], sequences=True), Lstm(*w[3:])],
    ),
}
PADDED: dict[str, Kinds] = {
    "lstm and largest": (
        lambda: [L.LSTM(4, return_sequences=True), L.GlobalMaxPooling1D()],
        lambda w: [Lstm(*w, sequences=True), GlobalPool("max")],
    ),
    "conv and largest": (
        lambda: [L.Conv1D(4, 3, activation="relu"), L.GlobalMaxPooling1D()],
        lambda w: [Conv1D(*w, activation="relu"), GlobalPool("max")],
    ),
    "same conv and largest": (
        lambda: [L.Conv1D(4, 4, padding="same", activation="tanh"), L.GlobalMaxPooling1D()],
        lambda w: [Conv1D(*w, edges="same", activation="tanh"), GlobalPool("max")],
    ),
    "dilated causal conv, conv and largest": (
        lambda: [L.Conv1D(4, 2, padding="causal", dilation_rate=2), L.Conv1D(3, 2), L.GlobalMaxPooling1D()],
        lambda w: [Conv1D(*w[:2], dilation=2, edges="causal"), Conv1D(*w[2:]), GlobalPool("max")],
    ),
    "stepping conv and largest": (
        lambda: [L.Conv1D(4, 3, strides=2, padding="same"), L.GlobalMaxPooling1D()],
        lambda w: [Conv1D(*w, stride=2, edges="same"), GlobalPool("max")],
    ),
    "conv, pool and flat": (
        lambda: [L.Conv1D(4, 3), L.MaxPooling1D(3), L.Flatten()],
        lambda w: [Conv1D(*w), Pool("max", 3, 3), Flatten()],
    ),
    "conv, same pool and average": (
        lambda: [L.Conv1D(4, 3), L.AveragePooling1D(3, 2, padding="same"), L.GlobalAveragePooling1D()],
        lambda w: [Conv1D(*w), Pool("average", 3, 2, "same"), GlobalPool("average")],
    ),
    "average of words": (lambda: [L.GlobalAveragePooling1D()], lambda w: [GlobalPool("average")]),
    "dense at each step": (
        lambda: [L.Dense(4, activation="relu"), L.GlobalMaxPooling1D()],
        lambda w: [Dense(*w, "relu"), GlobalPool("max")],
    ),
    "conv with softmax": (
        lambda: [L.Conv1D(4, 3, activation="softmax"), L.GlobalAveragePooling1D()],
        lambda w: [Conv1D(*w, activation="softmax"), GlobalPool("average")],
    ),
}


def both(
    kinds: Kinds, *, masked: bool = False, head: tuple[int, str] = (3, "softmax")
) -> tuple[Network, Callable[[list[np.ndarray]], np.ndarray]]:
    """Return our network, and Keras's answers to sequences, with the same random weights."""
    make, ours = kinds
    units, activation = head
    keras_layers = [
        L.Embedding(WORDS, SIZE, mask_zero=masked),
        *make(),
        L.Dense(units, activation=activation),
    ]
    network = keras.Sequential([keras.Input((MOST,), dtype="int32"), *keras_layers])
    rng = np.random.default_rng(3)
    weights = [rng.normal(0, 0.6, variable.shape).astype(np.float32) for variable in network.weights]
    network.set_weights(weights)
    layers = (*ours(weights[1:-2]), Dense(weights[-2], weights[-1], activation))
    return (
        Network(Embedding(weights[0], masked=masked), layers, MOST),
        lambda sequences: np.asarray(network(pad(sequences, width=MOST, left=True))),
    )


def run(network: Network, sequences: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(build_onnx(network))
    longest = max(1, *(sequence.size for sequence in sequences))
    if network.runs_own_steps:
        feeds = {"tokens": pad(sequences, width=longest), "lengths": lengths_of(sequences)}
    else:
        width = MOST if network.margin is None else min(MOST, longest + network.margin)
        feeds = {"tokens": pad(sequences, width=width, left=True)}
    return np.asarray(session.run(["probabilities"], feeds)[0])


def sequences(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(1, WORDS, size).astype(np.int32) for size in sizes]


EVERY_SIZE = sequences(*range(MOST + 1))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_networks_answer_as_keras_at_their_own_steps(name: str, masked: bool):
    network, of_keras = both(RECURRENT[name], masked=masked)
    assert network.runs_own_steps
    assert np.abs(run(network, EVERY_SIZE) - of_keras(EVERY_SIZE)).max() <= 1e-5


@pytest.mark.parametrize("name", PADDED)
def test_other_networks_answer_as_keras(name: str):
    network, of_keras = both(PADDED[name])
    assert not network.runs_own_steps
    assert np.abs(run(network, EVERY_SIZE) - of_keras(EVERY_SIZE)).max() <= 1e-5


@pytest.mark.parametrize("name", [name for name in PADDED if name.endswith("conv and largest")])
def test_the_largest_value_needs_a_few_zeros_only(name: str):
    network, of_keras = both(PADDED[name])
    short = sequences(0, 1, 2, 3)
    if "stepping" in name:
        assert network.margin is None
    else:
        assert network.margin is not None and 3 + network.margin < MOST
    assert np.abs(run(network, short) - of_keras(short)).max() <= 1e-5


def test_one_sigmoid_gives_two_classes():
    network, of_keras = both(RECURRENT["lstm"], head=(1, "sigmoid"))
    chances = of_keras(EVERY_SIZE)
    assert np.abs(run(network, EVERY_SIZE) - np.concatenate([1 - chances, chances], axis=1)).max() <= 1e-5


@pytest.mark.parametrize("sizes", [(0,), (0, 0), (0, 18), (1,)])
@pytest.mark.parametrize("masked", [False, True])
def test_texts_without_words_answer_as_keras(sizes: tuple[int, ...], masked: bool):
    network, of_keras = both(RECURRENT["lstm"], masked=masked)
    texts = sequences(*sizes)
    assert np.abs(run(network, texts) - of_keras(texts)).max() <= 1e-5


def test_the_same_network_is_the_same_bytes():
    network, _ = both(RECURRENT["gru"])
    assert build_onnx(network) == build_onnx(network)


def test_the_input_is_described():
    network, _ = both(PADDED["conv and largest"])
    assert describe_input(network) == {"max_tokens": MOST, "own_steps": False, "margin": 5}
