"""Networks that Keras wrote answer as in Keras: every layer that is built, padded on either side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tamis import Classifier
from tamis.artifact.keras_import.convert import import_keras
from tamis.cli import cli
from tamis.errors import ArtifactError
from tamis.models.network.tokenizer import Tokenizer, pad
from tamis.training.trainers.lstm.keras_backend import keras
from tests.support import keras_files as old

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

L = keras.layers
TEXTS = ["", "call now", "WIN the prize, now!", "see you", "nothing known", " ".join([*old.WORDS, "win"] * 3)]
STEPS = old.MOST


def embedding(*, mask: bool = False) -> Any:
    return L.Embedding(len(old.WORDS) + 1, 4, mask_zero=mask)


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


NETWORKS: dict[str, Callable[[], list[Any]]] = {
    "lstm": lambda: [embedding(), L.LSTM(3), L.Dense(2, "softmax")],
    "masked lstm": lambda: [embedding(mask=True), L.LSTM(3), L.Dense(2, "softmax")],
    "two lstms": lambda: [embedding(), L.LSTM(3, return_sequences=True), L.LSTM(3), L.Dense(2, "softmax")],
    "bidirectional lstm": lambda: [embedding(), L.Bidirectional(L.LSTM(3)), L.Dense(2, "softmax")],
    "masked bidirectional gru": lambda: [
        embedding(mask=True),
        L.Bidirectional(L.GRU(3), merge_mode="sum"),
        L.Dense(2, "softmax"),
    ],
    "masked, two bidirectional": lambda: [
        embedding(mask=True),
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.Bidirectional(L.GRU(2), merge_mode="mul"),
        L.Dense(2, "softmax"),
    ],
    "bidirectional and pooling": lambda: [
        embedding(),
        L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="ave"),
        L.GlobalMaxPooling1D(),
        L.Dense(2, "softmax"),
    ],
    "both ways, then one way": lambda: [
        embedding(),
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.LSTM(2),
        L.Dense(2, "softmax"),
    ],
    "hard sigmoid of Keras 3": lambda: [
        embedding(),
        L.LSTM(3, recurrent_activation="hard_sigmoid"),
        L.Dense(4, "hard_sigmoid"),
        L.Dense(2, "softmax"),
    ],
    "normalised everywhere": lambda: [
        embedding(),
        L.BatchNormalization(),
        L.Conv1D(5, 3),
        L.BatchNormalization(scale=False),
        L.Activation("relu"),
        L.GlobalMaxPooling1D(),
        L.BatchNormalization(center=False),
        L.Dense(3),
        L.BatchNormalization(),
        L.Activation("tanh"),
        L.Dropout(0.3),
        L.Dense(2),
        L.Activation("softmax"),
    ],
    "normalised between recurrent": lambda: [
        embedding(),
        L.GRU(3, return_sequences=True),
        L.BatchNormalization(),
        L.Activation("hard_sigmoid"),
        L.LSTM(2),
        L.Dense(1),
        L.Activation("sigmoid"),
    ],
    "conv, pool and flatten": lambda: [
        embedding(),
        L.Conv1D(5, 3, padding="causal", activation="relu"),
        L.MaxPooling1D(2),
        L.Flatten(),
        L.Dense(2, "softmax"),
    ],
    "conv and average": lambda: [
        embedding(),
        L.Conv1D(5, 2, padding="same", activation="relu"),
        L.GlobalAveragePooling1D(),
        L.Dense(2, "softmax"),
    ],
}


def sequential(layers: list[Any]) -> Any:
    return keras.Sequential([keras.Input((STEPS,), dtype="int32"), *layers])


def functional(layers: list[Any]) -> Any:
    signal = start = keras.Input((STEPS,), dtype="int32")
    for layer in layers:
        signal = layer(signal)
    return keras.Model(start, signal)


def with_random_arrays(network: Any) -> Any:
    """Give every array, those of normalisation too, values that matter."""
    rng = np.random.default_rng(5)
    for variable in network.weights:
        drawn = rng.normal(0, 0.6, variable.shape)
        variable.assign(np.abs(drawn) if "variance" in variable.path else drawn)
    return network


def answers_of(network: Any, folder: Path, *, padding: str, truncating: str) -> Any:
    """Return what Keras answers to the texts, padded and cut as `pad_sequences` does."""
    tokenizer = Tokenizer.from_json((folder / "spam_tokenizer.json").read_bytes())
    sequences = tokenizer.sequences(TEXTS, max_tokens=1000)
    cut = [one[-STEPS:] if truncating == "pre" else one[:STEPS] for one in sequences]
    answers = np.asarray(network(pad(cut, width=STEPS, left=padding == "pre")))
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


@pytest.mark.parametrize(("made", "side"), [(sequential, "pre"), (functional, "post")])
@pytest.mark.parametrize("name", NETWORKS)
def test_imported_network_answers_as_keras(
    name: str, made: Callable[[list[Any]], Any], side: str, tmp_path: Path
):
    network = with_random_arrays(made(NETWORKS[name]()))
    sides = {"padding": side, "truncating": side}
    network.save(old.write_beside(tmp_path / "old", **sides))
    classifier = Classifier.load(import_keras(tmp_path / "old", tmp_path / "legacy"))
    expected = answers_of(network, tmp_path / "old", **sides)
    assert np.abs(classifier.probabilities(TEXTS) - expected).max() <= 1e-5
    alone = np.concatenate([classifier.probabilities([text]) for text in TEXTS])
    assert np.abs(classifier.probabilities(TEXTS) - alone).max() <= 1e-6


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_hard_sigmoid_of_a_keras_2_file_has_its_slope(kind: str, tmp_path: Path):
    layer = old.lstm if kind == "LSTM" else old.gru
    layers = [old.embedding(), layer(recurrent_activation="hard_sigmoid"), old.dense()]
    folder = old.write_old_model(tmp_path / "old", layers)
    made = getattr(L, kind)(3, recurrent_activation=hard_sigmoid_of_keras_2)
    network = sequential([embedding(), made, L.Dense(2, "softmax")])
    network.set_weights(old.arrays_of(folder))
    classifier = Classifier.load(import_keras(folder, tmp_path / "legacy"))
    expected = answers_of(network, folder, padding="pre", truncating="pre")
    assert np.abs(classifier.probabilities(TEXTS) - expected).max() <= 1e-5


def test_functional_configuration_of_keras_2_is_read(tmp_path: Path):
    folder = old.write_old_model(tmp_path / "old", [old.embedding(), old.lstm(), old.dense()])
    expected = Classifier.load(import_keras(folder, tmp_path / "sequential")).probabilities(TEXTS)
    with h5py.File(folder / "spam_model.h5", "r+") as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        first = {"class_name": "InputLayer", "config": {"name": "input_1"}}
        named = [{**layer, "name": layer["config"]["name"]} for layer in (first, *layers)]
        for before, layer in zip([None, *named], named, strict=False):
            layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]] if before else []
        config = {"layers": named[::-1], "input_layers": [["input_1", 0, 0]]}
        config["output_layers"] = [[named[-1]["name"], 0, 0]]
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": config})
    found = Classifier.load(import_keras(folder, tmp_path / "legacy")).probabilities(TEXTS)
    assert np.array_equal(found, expected)


def branched() -> Any:
    start = keras.Input((STEPS,), dtype="int32")
    words = embedding()(start)
    both = L.Concatenate()([L.GlobalMaxPooling1D()(words), L.GlobalAveragePooling1D()(words)])
    return keras.Model(start, L.Dense(2, "softmax")(both))


def two_outputs() -> Any:
    start = keras.Input((STEPS,), dtype="int32")
    signal = L.LSTM(3)(embedding()(start))
    return keras.Model(start, [L.Dense(2, "softmax")(signal), L.Dense(2, "softmax")(signal)])


def used_twice() -> Any:
    start = keras.Input((STEPS,), dtype="int32")
    dense = L.Dense(3, "tanh")
    return keras.Model(start, L.Dense(2, "softmax")(dense(dense(L.LSTM(3)(embedding()(start))))))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (branched, "chain"),
        (two_outputs, "1 inputs and 2 outputs"),
        (used_twice, "used 2 times"),
        (
            lambda: sequential(
                [embedding(), L.BatchNormalization(axis=1), L.GlobalMaxPooling1D(), L.Dense(2, "softmax")]
            ),
            "axis 1 is not supported",
        ),
        (
            lambda: sequential(
                [
                    embedding(),
                    L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3, use_bias=False, go_backwards=True)),
                    L.Dense(2, "softmax"),
                ]
            ),
            "backward layer",
        ),
    ],
)
def test_network_that_is_not_built_is_refused(network: Callable[[], Any], message: str, tmp_path: Path):
    network().save(old.write_beside(tmp_path / "old"))
    with pytest.raises(ArtifactError, match=message):
        import_keras(tmp_path / "old", tmp_path / "legacy")


def test_unknown_metadata_keys_are_named(tmp_path: Path):
    layers = [old.embedding(), old.lstm(), old.dense()]
    folder = old.write_old_model(tmp_path / "old", layers, lemmatize=True, stop_words=[])
    ran = CliRunner().invoke(cli, ["import-keras", str(folder), "-o", str(tmp_path / "legacy")])
    assert ran.exit_code == 0
    assert "unknown keys ignored: lemmatize, stop_words" in ran.stderr


def test_shared_case_with_post_padding_answers_as_expected(shared_data: Path, tmp_path: Path):
    case = shared_data.parent / "cases/csv/10_keras_post_padding"
    if not case.is_dir():
        pytest.skip("the shared cases are not here")
    manifest = json.loads((import_keras(case, tmp_path / "legacy") / "manifest.json").read_bytes())
    assert (manifest["model"]["padding"], manifest["model"]["truncating"]) == ("post", "post")
