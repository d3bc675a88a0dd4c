"""A network served without Keras answers as Keras does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from tamis import Classifier
from tamis.artifact import open_artifact
from tamis.data.reader import read_dataset
from tamis.errors import ArtifactError
from tamis.models import load_scorer
from tamis.models.network.tokenizer import pad
from tamis.models.self_test import check_probes, record_probes
from tamis.normalization import canonical
from tamis.training.trainers import make_trainer, preset
from tamis.training.trainers.base import Calibration
from tamis.training.trainers.lstm.trainer import LstmTrainer
from tests.support.networks import save_network, small_lstm
from tests.support.samples import messages

CALIBRATION = Calibration(1.7, (0.2, -0.2))
LONG = "Free entry, text WIN to 81010 now! " * 290
LIGHT = {"words": "280", "units": "24", "embedding": "16", "epochs": "1", "validation": "0", "batch": "128"}

TEXTS = [*messages(80, seed=12).texts, "", "☃", "\ud800", LONG[:10_000], "win " * 24, "win"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network; not to be changed."""
    return save_network(small_lstm(epochs=1), tmp_path_factory.mktemp("saved") / "spam")


@pytest.fixture(scope="module", params=[True, False], ids=["masked", "unmasked"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Return a trained network, and the classifier that serves it."""
    model = small_lstm(mask=request.param)
    path = save_network(model, tmp_path_factory.mktemp("models") / "spam", CALIBRATION)
    return model, Classifier.load(path)


def of_keras(model: LstmTrainer, texts: Sequence[str], calibration: Calibration = CALIBRATION) -> Any:
    """Return what the network answers in Keras to texts padded to the full length."""
    sequences = model.tokenizer_.sequences(map(canonical, texts), max_tokens=model.max_tokens)
    tokens = pad(sequences, width=model.max_tokens, left=True)
    return model.network(calibration=calibration).predict(tokens, batch_size=64, verbose=0)


def test_probabilities_are_those_of_keras_with_the_calibration(both: tuple[LstmTrainer, Classifier]):
    model, classifier = both
    assert np.abs(classifier.probabilities(TEXTS) - of_keras(model, TEXTS)).max() <= 1e-5


def test_the_network_is_told_as_keras_tells_it(both: tuple[LstmTrainer, Classifier]):
    model, classifier = both
    assert classifier.network == json.loads(model.network().to_json())


def test_self_test_of_a_network_is_exact_on_one_machine(saved: Path) -> None:
    artifact = open_artifact(saved)
    scorer = load_scorer(artifact.manifest.kind, artifact.model_files)
    probes = record_probes(scorer)
    check_probes(load_scorer(artifact.manifest.kind, artifact.model_files), probes, 2)
    rounded = [[float(np.nextafter(score, 1)) for score in row] for row in probes.scores]
    changed = msgspec.structs.replace(probes, scores=rounded)
    with pytest.raises(ArtifactError, match="self-test failed: 14 of 14"):
        check_probes(scorer, changed, 2)
    check_probes(scorer, msgspec.structs.replace(changed, arithmetic="another processor's"), 2)


def test_self_test_knows_onnx_runtime_by_any_distribution(saved: Path, tmp_path: Path) -> None:
    """For some processors it is called onnxruntime-gpu or onnxruntime-openvino."""
    installed = Path(onnxruntime.__file__).parents[1]
    for part in installed.iterdir():
        name = part.name.replace("onnxruntime-", "onnxruntime_gpu-")
        if part.suffix != ".pth":
            (tmp_path / name).symlink_to(part)
    code = (
        "import sys; from pathlib import Path; from tamis.artifact import open_artifact\n"
        "from tamis.models import load_scorer; from tamis.models.self_test import record_probes\n"
        "found = open_artifact(Path(sys.argv[1]))\n"
        "print(record_probes(load_scorer(found.manifest.kind, found.model_files)).arithmetic)"
    )
    artifact = open_artifact(saved)
    here = record_probes(load_scorer(artifact.manifest.kind, artifact.model_files)).arithmetic
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(tamis.__file__).parents[1]}"}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, saved], env=environ, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == (f"{here}\n", "")


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=90))
@settings(max_examples=25, deadline=None)
def test_a_text_has_the_same_answer_alone_and_in_any_batch(
    both: tuple[LstmTrainer, Classifier], texts: list[str]
):
    classifier = both[1]
    together = classifier.probabilities(texts)
    alone = {text: classifier.probabilities([text])[0] for text in set(texts)}
    assert np.abs(together - [alone[text] for text in texts]).max() <= 1e-6
    assert np.allclose(together.sum(axis=1), 1, atol=1e-12)


def test_no_texts_give_no_answers(both: tuple[LstmTrainer, Classifier]):
    assert both[1].probabilities([]).shape == (0, 2)


def test_threads_get_the_answers_that_one_gets(both: tuple[LstmTrainer, Classifier]):
    classifier = both[1]
    expected, wrong = classifier.predict_many(TEXTS), []

    def ask() -> None:
        for _ in range(10):
            if classifier.predict_many(TEXTS) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_three_classes_are_answered(tmp_path: Path):
    model = small_lstm(labels=("ham", "spam", "question"))
    classifier = Classifier.load(save_network(model, tmp_path / "three"))
    expected = of_keras(model, TEXTS, Calibration(1.0, (0.0,) * 3))
    assert np.abs(classifier.probabilities(TEXTS) - expected).max() <= 1e-5


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(LIGHT, id="small"),
        pytest.param({}, id="default preset", marks=pytest.mark.soak),
        pytest.param(preset("lstm", "workshop"), id="workshop preset", marks=pytest.mark.soak),
    ],
)
def test_every_row_of_the_real_data_is_answered_as_keras_does(
    shared_data: Path, tmp_path: Path, values: Mapping[str, str]
):
    dataset = read_dataset(shared_data / "spam-dataset.csv").dataset
    model = make_trainer("lstm", values, seed=42)
    model.fit([canonical(text) for text in dataset.texts], dataset.labels)
    classifier = Classifier.load(save_network(model, tmp_path / "spam", CALIBRATION))
    texts = ["", LONG[:10_000], *dataset.texts]
    expected = of_keras(model, texts)
    shuffled = np.random.default_rng(1).permutation(len(texts))
    together = classifier.probabilities([texts[i] for i in shuffled])
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    off_together = np.abs(together - expected[shuffled]).max()
    off_alone = np.abs(alone - expected).max()
    print(  # noqa: T201 - the figures of `make soak`
        f"{len(texts):,} texts: off Keras's answers by {off_together:.1e} at most in batches of "
        f"mixed lengths, by {off_alone:.1e} alone"
    )
    assert off_together <= 1e-5
    assert off_alone <= 1e-5


def test_keras_is_not_loaded(saved: Path):
    program = (
        "import sys; from tamis import Classifier\n"
        f"Classifier.load({str(saved)!r}).predict('hello')\n"
        "print(sorted({'keras', 'jax', 'onnx', 'h5py', 'sklearn', 'scipy'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_missing_runtime_is_one_line_that_names_the_extra(saved: Path):
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from tamis import Classifier, TamisError\n"
        f"try: Classifier.load({str(saved)!r})\n"
        "except TamisError as missing: print(missing)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "tamis[onnx]" in run.stdout and run.stdout.count("\n") == 1


class TestBroken:
    """What does not fit is refused when the model is loaded, as one line that names the file."""

    @pytest.fixture
    def path(self, saved: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(saved, tmp_path / "spam" / "1"))

    @staticmethod
    def refusal(path: Path) -> str:
        with pytest.raises(ArtifactError) as refused:
            Classifier.load(path)
        message = str(refused.value)
        assert "\n" not in message and str(path) in message
        return message

    @staticmethod
    def replace(path: Path, name: str, data: bytes) -> None:
        """Put other contents under a name, with the checksum that belongs to them."""
        (path / name).write_bytes(data)
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        (path / "manifest.json").write_text(json.dumps(manifest))

    def test_a_graph_that_is_none(self, path: Path):
        self.replace(path, "model.onnx", b"nothing")
        assert "model.onnx cannot be read" in self.refusal(path)

    def test_a_graph_with_other_inputs(self, path: Path):
        graph = onnx.load(path / "model.onnx")
        graph.graph.input[0].name = "words"
        self.replace(path, "model.onnx", graph.SerializeToString())
        assert "model.onnx" in self.refusal(path)

    def test_a_graph_of_other_labels(self, path: Path):
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest.update(labels=["a", "b", "c"], operating_point=None)
        (path / "manifest.json").write_text(json.dumps(manifest))
        assert "no probabilities for 3 labels" in self.refusal(path)

    def test_a_vocabulary_larger_than_the_embedding(self, path: Path):
        tokenizer = json.loads((path / "tokenizer.json").read_bytes())
        tokenizer["config"].update(num_words=999, word_index='{"a": 900}')
        self.replace(path, "tokenizer.json", json.dumps(tokenizer).encode())
        assert "model.onnx does not run" in self.refusal(path)

    def test_a_tokenizer_that_is_none(self, path: Path):
        self.replace(path, "tokenizer.json", b"{}")
        assert "tokenizer.json: this is no tokenizer" in self.refusal(path)

    @pytest.mark.parametrize("written", [b"[]", b"{", b'{"units": NaN}', b"[" * 100_000])
    def test_a_configuration_that_is_none(self, path: Path, written: bytes):
        self.replace(path, "network.json", written)
        assert "network.json cannot be read" in self.refusal(path)

    @pytest.mark.parametrize("described", [{}, {"max_tokens": 0, "own_steps": True}, {"max_tokens": "24"}])
    def test_a_manifest_that_does_not_describe_the_input(self, path: Path, described: dict[str, object]):
        manifest = json.loads((path / "manifest.json").read_bytes())
        (path / "manifest.json").write_text(json.dumps({**manifest, "model": described}))
        assert "manifest.json does not describe" in self.refusal(path)
