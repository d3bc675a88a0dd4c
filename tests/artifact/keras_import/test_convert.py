"""An old model answers as Keras did, and a file that is none is refused by what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tamis import Classifier
from tamis.artifact.keras_import.convert import import_keras
from tamis.data.reader import read_dataset
from tamis.errors import ArtifactError
from tamis.models.network.tokenizer import Tokenizer, pad
from tamis.training.trainers.lstm.keras_backend import keras
from tests.support import keras_files as old

L = keras.layers
SILENT = old.OldLayer("SpatialDropout1D", {"rate": 0.4})
DROPOUT = old.OldLayer("Dropout", {"rate": 0.2})
LAST = {"data_format": "channels_last"}
MAX_POOL = old.OldLayer("MaxPooling1D", {"pool_size": [2], "strides": [2], "padding": "valid", **LAST})
GLOBAL_MAX = old.OldLayer("GlobalMaxPooling1D", {"keepdims": False, **LAST})
AVERAGE = old.OldLayer("GlobalAveragePooling1D", LAST)
FLATTEN = old.OldLayer("Flatten", LAST)
EMBED = L.Embedding
TEXTS = ["", "call now", "WIN the prize, now!", "see you", "nothing known", " ".join(old.WORDS * 3)]

NETWORKS: dict[str, tuple[list[old.OldLayer], Callable[[], list[Any]]]] = {
    "lstm": (
        [old.embedding(), SILENT, old.lstm(), old.dense()],
        lambda: [EMBED(10, 4), L.LSTM(3), L.Dense(2, "softmax")],
    ),
    "masked lstm": (
        [old.embedding(mask_zero=True), old.lstm(), old.dense()],
        lambda: [EMBED(10, 4, mask_zero=True), L.LSTM(3), L.Dense(2, "softmax")],
    ),
    "gru": (
        [old.embedding(), old.gru(), DROPOUT, old.dense(3, 4, "relu"), old.dense(4, 2)],
        lambda: [EMBED(10, 4), L.GRU(3), L.Dense(4, "relu"), L.Dense(2, "softmax")],
    ),
    "gru of Keras 1": (
        [old.embedding(), old.gru(reset_after=False), old.dense()],
        lambda: [EMBED(10, 4), L.GRU(3, reset_after=False), L.Dense(2, "softmax")],
    ),
    "conv and global max": (
        [old.embedding(), SILENT, old.conv(), GLOBAL_MAX, old.dense(5)],
        lambda: [
            EMBED(10, 4),
            L.Conv1D(5, 3, activation="relu"),
            L.GlobalMaxPooling1D(),
            L.Dense(2, "softmax"),
        ],
    ),
    "conv, max and flatten": (
        [old.embedding(), old.conv(), MAX_POOL, FLATTEN, old.dense(25)],
        lambda: [
            EMBED(10, 4),
            L.Conv1D(5, 3, activation="relu"),
            L.MaxPooling1D(2),
            L.Flatten(),
            L.Dense(2, "softmax"),
        ],
    ),
    "conv and average": (
        [old.embedding(), old.conv(padding="same"), AVERAGE, old.dense(5)],
        lambda: [
            EMBED(10, 4),
            L.Conv1D(5, 3, activation="relu", padding="same"),
            L.GlobalAveragePooling1D(),
            L.Dense(2, "softmax"),
        ],
    ),
    "one sigmoid": (
        [old.embedding(), old.lstm(), old.dense(3, 1, "sigmoid")],
        lambda: [EMBED(10, 4), L.LSTM(3), L.Dense(1, "sigmoid")],
    ),
}


def of_keras(
    layers: list[Any], arrays: list[np.ndarray], tokenizer: Tokenizer, texts: list[str], most: int
) -> Any:
    """Return what Keras answers to texts padded on the left to the full length."""
    network = keras.Sequential([keras.Input((most,), dtype="int32"), *layers])
    network.set_weights(arrays)
    tokens = pad(tokenizer.sequences(texts, max_tokens=most), width=most, left=True)
    parts = [np.asarray(network(tokens[start : start + 64])) for start in range(0, len(texts), 64)]
    answers = np.concatenate(parts)
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


@pytest.mark.parametrize("name", NETWORKS)
def test_an_imported_model_answers_as_keras_did(name: str, tmp_path: Path):
    layers, in_keras = NETWORKS[name]
    folder = old.write_old_model(tmp_path / "old", layers)
    classifier = Classifier.load(import_keras(folder, tmp_path / "legacy"))
    tokenizer = Tokenizer.from_json((folder / "spam_tokenizer.json").read_bytes())
    expected = of_keras(in_keras(), old.arrays_of(folder), tokenizer, TEXTS, old.MOST)
    assert np.abs(classifier.probabilities(TEXTS) - expected).max() <= 1e-5
    assert classifier.labels == ("ham", "spam")


def test_the_legacy_model_answers_as_keras_on_the_real_data(shared_data: Path, tmp_path: Path):
    legacy = shared_data.parent / "legacy"
    texts = [*read_dataset(shared_data / "spam-dataset.csv").dataset.texts[::30], "", "win " * 400]
    texts.append("\ufeffcheck out my channel\ufeff")  # such marks are words of that vocabulary
    classifier = Classifier.load(import_keras(legacy, tmp_path / "legacy"))
    tokenizer = Tokenizer.from_json((legacy / "spam_tokenizer.json").read_bytes())
    layers = [EMBED(280, 128), L.LSTM(196), L.Dense(2, "softmax")]
    with h5py.File(legacy / "spam_model.h5") as file:
        weights = file["model_weights"]
        arrays = [
            weights[layer][name][()]
            for layer in ("embedding", "lstm", "dense")
            for name in weights[layer].attrs["weight_names"]
        ]
    expected = of_keras(layers, arrays, tokenizer, texts, 300)
    assert np.abs(classifier.probabilities(texts) - expected).max() <= 1e-5


def test_importing_twice_gives_next_version_with_same_identity(tmp_path: Path):
    folder = old.write_old_model(tmp_path / "old", NETWORKS["lstm"][0])
    first, second = (Classifier.load(import_keras(folder, tmp_path / "legacy")) for _ in range(2))
    assert (first.version, second.version) == ("1", "2")
    assert first.identity == second.identity


def test_labels_are_in_the_order_of_their_numbers(tmp_path: Path):
    layers = [old.embedding(), old.lstm(), old.dense(3, 3)]
    folder = old.write_old_model(tmp_path / "old", layers, labels=("spam", "ham", "question"))
    assert Classifier.load(import_keras(folder, tmp_path / "legacy")).labels == ("spam", "ham", "question")


def test_tokenizer_that_was_written_as_text_within_json_is_read(tmp_path: Path):
    folder = old.write_old_model(tmp_path / "old", NETWORKS["lstm"][0])
    file = folder / "spam_tokenizer.json"
    file.write_text(json.dumps(file.read_text()))
    assert Classifier.load(import_keras(folder, tmp_path / "legacy")).labels == ("ham", "spam")


class TestRefused:
    """Each refusal is one line that says which file and what is wrong; nothing is written."""

    @staticmethod
    def refusal(folder: Path) -> str:
        output = folder.parent / "legacy"
        with pytest.raises(ArtifactError) as refused:
            import_keras(folder, output)
        assert not list(output.glob("[0-9]*"))
        message = str(refused.value)
        assert "\n" not in message and str(folder) in message
        return message

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return old.write_old_model(tmp_path / "old", NETWORKS["lstm"][0])

    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ([old.embedding(), old.OldLayer("Lambda"), old.dense()], "kind 'Lambda'"),
            ([old.embedding(), old.OldLayer("Bidirectional"), old.dense()], "its configuration is not one"),
            ([old.lstm(), old.dense()], "first layer must be an Embedding"),
            ([old.embedding(), old.lstm()], "last layer must be Dense"),
            ([old.embedding(), old.lstm(), old.dense(3, 2, "relu")], "last layer must be Dense"),
            ([old.embedding(), old.lstm(), old.dense(3, 2, "sigmoid")], "2 values through sigmoid"),
            ([old.embedding(), old.lstm(), old.dense(3, 2, "swish")], "activation='swish'"),
            ([old.embedding(), old.lstm(go_backwards=True), old.dense()], "go_backwards=True"),
            ([old.embedding(), old.lstm(stateful=True), old.dense()], "stateful=True"),
            ([old.embedding(), old.lstm(activation="relu"), old.dense()], "activation='relu'"),
            (
                [old.embedding(), old.lstm(recurrent_activation="swish"), old.dense()],
                "recurrent_activation='swish'",
            ),
            ([old.embedding(), old.lstm(return_sequences=True), old.dense()], "every step"),
            ([old.embedding(), old.dense(4)], "every step"),
            ([old.embedding(), old.lstm(), old.lstm(3), old.dense()], "removed the time steps"),
            ([old.embedding(), old.lstm(inputs=9), old.dense()], "does not fit the 4 channels"),
            ([old.embedding(), old.lstm(), old.dense(7)], "does not fit the 3 channels"),
            ([old.embedding(output_dim=9), old.lstm(), old.dense()], "embeddings has shape"),
            ([old.embedding(), old.lstm(), old.dense(3, 5)], "it has 5 outputs"),
            ([old.embedding(), old.conv(size=20), GLOBAL_MAX, old.dense(5)], "window of 20 steps"),
            ([old.embedding(), old.conv(groups=2), GLOBAL_MAX, old.dense(5)], "groups=2"),
            ([old.embedding(), old.conv(strides=[0]), GLOBAL_MAX, old.dense(5)], "strides=0"),
            ([old.embedding(mask_zero=True), AVERAGE, old.dense(4)], "mask_zero is supported before"),
            ([old.embedding(), old.embedding(), old.dense(4)], "two Embedding"),
            ([old.OldLayer("InputLayer")], "its configuration is not one"),
        ],
    )
    def test_layers_that_are_not_supported(self, tmp_path: Path, layers: list[old.OldLayer], message: str):
        assert message in self.refusal(old.write_old_model(tmp_path / "old", layers))

    def test_a_model_that_is_not_sequential(self, folder: Path):
        with h5py.File(folder / "spam_model.h5", "r+") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Own", "config": {}})
        assert "'Own' model" in self.refusal(folder)

    @pytest.mark.parametrize("name", ["spam_model.h5", "spam_tokenizer.json", "spam_metadata.json"])
    def test_a_missing_file(self, folder: Path, name: str):
        (folder / name).unlink()
        assert "there are 0" in self.refusal(folder)

    def test_two_networks_in_one_folder(self, folder: Path):
        (folder / "other.h5").write_bytes(b"")
        assert "there are 2" in self.refusal(folder)

    def test_a_folder_that_is_none(self, tmp_path: Path):
        assert "is no folder" in self.refusal(tmp_path / "old")

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({}, "not the metadata"),
            ({"max_seq_length": "300"}, "not the metadata"),
            ({"label_legend_inverted": {"0": "a", "2": "b"}, "max_seq_length": 300}, "number the labels"),
            ({"label_legend_inverted": {"0": "a"}, "max_seq_length": 300}, "number the labels"),
            ({"label_legend_inverted": {"0": "a", "1": "a"}, "max_seq_length": 300}, "different names"),
            ({"label_legend_inverted": {"0": "a", "1": 7}, "max_seq_length": 300}, "different names"),
            ({"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": "300"}, "a number of words"),
            ({"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": 10**9}, "max_seq_length is"),
        ],
    )
    def test_metadata_that_is_none(self, folder: Path, metadata: dict[str, object], message: str):
        (folder / "spam_metadata.json").write_text(json.dumps(metadata))
        assert message in self.refusal(folder)

    def test_a_tokenizer_with_more_words_than_the_embedding(self, folder: Path):
        tokenizer = Tokenizer.fit([f"{' '.join(old.WORDS)} more"], num_words=99)
        (folder / "spam_tokenizer.json").write_bytes(tokenizer.to_json())
        assert "10 rows" in self.refusal(folder)

    def test_a_tokenizer_that_is_none(self, folder: Path):
        (folder / "spam_tokenizer.json").write_text("[]")
        assert "spam_tokenizer.json: this is no tokenizer" in self.refusal(folder)

    @pytest.mark.parametrize(
        "metadata",
        [
            {"label_legend_inverted": {"0": "a", "1": "\ud800"}, "max_seq_length": 300},
            {"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": 300, "text_form": []},
            {"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": 300, "text_form": {}},
            {"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": True},
            {"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": 300, "padding": "left"},
            {"label_legend_inverted": {"0": "a", "1": "b"}, "max_seq_length": 300, "truncating": ["pre"]},
        ],
    )
    def test_metadata_of_other_types(self, folder: Path, metadata: dict[str, object]):
        (folder / "spam_metadata.json").write_text(json.dumps(metadata))
        assert "spam_metadata.json" in self.refusal(folder)

    @pytest.mark.parametrize("count", ["1e999", "-1", "[]", '"3"', "1.5", "NaN"])
    def test_a_document_count_that_is_none(self, folder: Path, count: str):
        file = folder / "spam_tokenizer.json"
        file.write_text(file.read_text().replace('"document_count": 1', f'"document_count": {count}'))
        assert "spam_tokenizer.json: this is no tokenizer" in self.refusal(folder)

    @pytest.mark.parametrize("value", ["[" * 980 + "]" * 980, "[" * 5000 + "]" * 5000, "NaN", '"\\ud800"'])
    def test_a_configuration_that_serving_could_not_read(self, folder: Path, value: str):
        with h5py.File(folder / "spam_model.h5", "r+") as file:
            config = json.dumps({**json.loads(file.attrs["model_config"]), "more": 0})
            file.attrs["model_config"] = config.replace('"more": 0', f'"more": {value}')
        assert "configuration" in self.refusal(folder)
