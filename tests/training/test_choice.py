"""The choice of a setting on out-of-fold predictions: made if clearly better, reported, otherwise absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier, train
from tamis.artifact import CARD_FILE, REPORT_FILE
from tamis.training.cross_validation import cross_validate
from tamis.training.fit import TrainSettings, fit
from tamis.training.trainers.linear.trainer import LinearTrainer
from tamis.training.tuning.trials import Autotune
from tamis.types import Dataset
from tests.support.samples import messages, write_csv

_CHOICES = (("red", "blue"), ("sun", "moon"), ("cat", "dog"))


def parities(rows: int) -> Dataset:
    """Return texts whose label is decided by three words in a row, and by no word or pair of them."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2, (rows, 3))
    noise = ["".join(rng.choice(list("aeiklmnorstu"), 5)) for _ in range(400)]
    texts = []
    for chosen in bits.tolist():
        three = " ".join(words[bit] for words, bit in zip(_CHOICES, chosen, strict=True))
        before, after = (" ".join(rng.choice(noise, 3)) for _ in range(2))
        texts.append(f"{before} {three} {after}")
    return Dataset(texts, ["odd" if n % 2 else "even" for n in bits.sum(axis=1)], list(range(1, rows + 1)))


def test_train_chooses_phrases_when_clearly_better(tmp_path: Path):
    said: list[str] = []
    trained = train(write_csv(parities(1200), tmp_path / "data.csv"), tmp_path / "model", log=said.append)
    assert trained.path is not None
    choice = trained.manifest.training["choice"]
    assert choice["overrides"] == {"phrases": "true"}
    assert trained.manifest.training["overrides"] == {}, "a retraining chooses anew"
    assert trained.manifest.model["features"]["phrases"] is True
    (line,) = [line for line in said if "chosen by cross-validation" in line]
    assert line.startswith("phrases=true, ")
    assert "setting phrases, chosen by cross-validation" in (trained.path / REPORT_FILE).read_text("utf-8")
    assert "phrases=true (log loss" in (trained.path / CARD_FILE).read_text("utf-8")
    assert Classifier.load(tmp_path / "model").predict("red sun dog").label == "odd"
    assert trained.evaluation.accuracy.value > 0.9


def test_chosen_model_is_that_of_the_setting_given():
    data = parities(900)
    chosen, given = (fit(data, TrainSettings(overrides=one)) for one in ({}, {"phrases": "true"}))
    assert chosen.choice is not None
    before, after = chosen.choice.log_losses
    assert before - after > 2 * chosen.choice.standard_error > 0
    assert chosen.calibrated == given.calibrated
    assert given.choice is None, "what was given stays"
    assert np.array_equal(chosen.probabilities(data.texts), given.probabilities(data.texts))


@pytest.mark.parametrize("overrides", [{"phrases": "false"}, {"format": "1", "bits": "20"}])
def test_choice_leaves_given_settings_alone(overrides: dict[str, str]):
    assert fit(parities(900), TrainSettings(overrides=overrides)).choice is None


@pytest.mark.parametrize("labels", [("ham", "spam"), ("ham", "spam", "question")])
def test_default_stays_without_a_clear_gain(labels: tuple[str, ...]):
    data = messages(1200, labels=labels)
    kept, given = (fit(data, TrainSettings(overrides=one)) for one in ({}, {"phrases": "false"}))
    assert kept.choice is None
    assert kept.calibrated == given.calibrated
    assert np.array_equal(kept.probabilities(data.texts), given.probabilities(data.texts))


@pytest.mark.parametrize(
    ("rows", "labels", "characters", "is_tried"),
    [
        (500, 3, 400_000, True),
        (499, 3, 400_000, False),
        (500, 4, 400_000, False),
        (500, 3, 400_001, False),
    ],
)
def test_phrases_are_tried_up_to_the_limits(rows: int, labels: int, characters: int, is_tried: bool):
    texts = ["x" * (characters // rows)] * (rows - 1)
    texts.append("x" * (characters - sum(map(len, texts))))
    alternative = LinearTrainer().alternative(texts, [f"label {row % labels}" for row in range(rows)])
    assert alternative == ({"phrases": "true"} if is_tried else {})


def test_search_tries_phrases_and_chooses_once(tmp_path: Path):
    path = write_csv(parities(1000), tmp_path / "data.csv")
    trained = train(path, None, autotune=Autotune(trials=2))
    assert "choice" not in trained.manifest.training
    assert trained.manifest.training["overrides"] == {"phrases": "true"}, (
        "the second trial, better than the first"
    )
    given = TrainSettings(overrides={"phrases": "false"})
    found = train(path, None, settings=given, autotune=Autotune(trials=2)).manifest.training["overrides"]
    assert found["phrases"] == "false", "what was given stays"
    assert train(path, None, autotune=Autotune(trials=1)).manifest.training["overrides"] == {}


def test_cross_validation_counts_the_folds_that_chose():
    found = cross_validate(parities(900), TrainSettings(), protocol="random", folds=2, repeats=1)
    assert found.chosen == {}, "a fold learns 450 rows, too few"
    assert cross_validate(parities(900), TrainSettings(), protocol="random", folds=5, repeats=1).chosen == {
        "phrases=true": 5
    }
