"""Models that take long are calibrated on one held-out fold, and may be stopped with what they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier, train
from tamis.training.fit import TrainSettings
from tamis.training.out_of_fold import LearningPart, held_out_logits
from tamis.training.train import Trained
from tamis.training.trainers.base import EncodedTexts
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.networks import SMALL
from tests.support.samples import messages, write_csv

OVERRIDES = {name: str(value) for name, value in SMALL.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(messages(300), tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings = TrainSettings(model="lstm", overrides=OVERRIDES)
    return train(data, tmp_path_factory.mktemp("models") / "spam", settings=settings)


def test_a_network_is_trained_calibrated_and_saved(trained: Trained):
    assert trained.path is not None
    assert trained.evaluation.accuracy.value > 0.9
    classifier = Classifier.load(trained.path)
    manifest = classifier.manifest
    assert manifest is not None and manifest.operating_point is not None
    assert manifest.operating_point.chosen_on == "answers about one held-out fold of the training part"
    assert {"keras", "jax", "onnx"} <= manifest.libraries.keys()
    assert classifier.predict("WIN a camera now! Text YES to 0123456789").label == "spam"


def test_the_same_data_and_settings_give_the_same_identity(trained: Trained, data: Path, tmp_path: Path):
    assert trained.path is not None
    again = train(data, tmp_path / "spam", settings=TrainSettings(model="lstm", overrides=OVERRIDES))
    assert again.path is not None
    assert Classifier.load(again.path).identity == Classifier.load(trained.path).identity


def test_the_summary_names_the_layers(trained: Trained):
    lines = trained.summary.splitlines()
    assert [line.split()[0] for line in lines] == ["embedding", "spatial_dropout", "lstm", "dense", "all"]
    assert lines[-1].split()[-1] == str(60 * 6 + 4 * 5 * (6 + 5 + 1) + 5 * 2 + 2)


def test_held_out_texts_are_one_fold_that_model_has_not_learned():
    data = messages(100)
    learned: list[str] = []

    class Watched(LinearTrainer):
        def fit(self, texts, labels, **options):
            learned.extend(texts)
            return super().fit(texts, labels, **options)

    groups = [str(i // 2) for i in range(100)]
    held = held_out_logits(
        lambda: Watched(bits=12), LearningPart(EncodedTexts(data.texts), data.labels, groups, folds=5), seed=1
    )
    assert len(held.rows) == 20 and held.logits.shape == (20, 2) and held.interrupted is None
    rest = [data.texts[i] for i in range(100) if i not in held.rows]
    assert learned == rest
    assert {groups[i] for i in held.rows}.isdisjoint({groups[i] for i in range(100) if i not in held.rows})
    assert np.isfinite(held.logits).all()


def test_a_label_of_one_text_stays_in_the_training_part():
    labels = ["ham"] * 19 + ["spam"]
    texts = [f"text number {i}" for i in range(20)]
    held = held_out_logits(
        lambda: LinearTrainer(bits=12), LearningPart(EncodedTexts(texts), labels, texts, folds=5), seed=1
    )
    assert held is not None
    assert 19 not in held.rows and held.logits.shape[1] == 2


def test_all_rows_are_learned_by_a_network_too(trained: Trained):
    facts = trained.manifest.data
    assert facts.learned_rows == 300 > facts.train_rows


def test_a_model_that_is_stopped_while_it_is_calibrated_is_kept(data: Path):
    said: list[str] = []
    pressed: list[float] = []

    def press_ctrl_c(done: int, total: int) -> None:
        if done / total > 0.2 and not pressed:  # the first of three fits is in its second epoch
            pressed.append(done / total)
            raise KeyboardInterrupt

    settings = TrainSettings(model="lstm", overrides=OVERRIDES)
    stopped = train(data, None, settings=settings, progress=press_ctrl_c, notice=said.append)
    assert stopped.interrupted and pressed[0] < 0.5
    assert said[-1] == "to calibrate, stopped in epoch 2 of 2; the best epoch so far is kept"
