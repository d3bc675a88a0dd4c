"""Users of Keras can load what is written for them, and what is written can be imported again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier
from tamis.artifact.keras_import.convert import import_keras
from tamis.errors import TrainingError
from tamis.models.network.tokenizer import pad
from tamis.normalization import canonical
from tamis.training.trainers.base import Calibration
from tamis.training.trainers.lstm.keras_backend import keras
from tamis.training.trainers.lstm.trainer import LstmTrainer
from tests.support.networks import save_network, small_lstm
from tests.support.samples import messages

# Keras 3.15 copies its variables in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CALIBRATION = Calibration(1.4, (0.3, -0.3))
TEXTS = [*messages(40, seed=5).texts, "", "ｗｉｎ a prize\u200b now", "call " * 50]


@pytest.fixture(scope="module", params=[True, False], ids=["masked", "unmasked"])
def network(request: pytest.FixtureRequest) -> LstmTrainer:
    return small_lstm(mask=request.param, epochs=1)


def expected(model: LstmTrainer) -> np.ndarray:
    return CALIBRATION(model.logits([canonical(text) for text in TEXTS]))


def tokens(model: LstmTrainer) -> np.ndarray:
    sequences = model.tokenizer_.sequences(map(canonical, TEXTS), max_tokens=model.max_tokens)
    return pad(sequences, width=model.max_tokens, left=True)


@pytest.mark.parametrize(("form", "name"), [("keras", "network.keras"), ("h5", "keras_model.h5")])
def test_keras_loads_what_is_written_for_it(network: LstmTrainer, form: str, name: str, tmp_path: Path):
    network.export_as(form, tmp_path, CALIBRATION)
    loaded = keras.saving.load_model(tmp_path / name, compile=False)
    assert np.abs(np.asarray(loaded(tokens(network))) - expected(network)).max() <= 1e-5


def test_the_old_files_are_imported_to_the_same_answers(network: LstmTrainer, tmp_path: Path):
    (tmp_path / "old").mkdir()
    network.export_as("h5", tmp_path / "old", CALIBRATION)
    imported = Classifier.load(import_keras(tmp_path / "old", tmp_path / "imported"))
    served = Classifier.load(save_network(network, tmp_path / "served", CALIBRATION))
    assert np.abs(imported.probabilities(TEXTS) - served.probabilities(TEXTS)).max() <= 1e-6
    assert np.abs(imported.probabilities(TEXTS) - expected(network)).max() <= 1e-5


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_the_same_bytes_are_written_twice(network: LstmTrainer, form: str, tmp_path: Path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        network.export_as(form, folder, CALIBRATION)
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes(), file.name


def test_an_unknown_form_is_refused(network: LstmTrainer, tmp_path: Path):
    with pytest.raises(TrainingError, match="cannot be written as onnx"):
        network.export_as("onnx", tmp_path, CALIBRATION)
