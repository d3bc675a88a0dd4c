"""The whole line: a CSV file to a saved, measured version, honest and reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier, train
from tamis.artifact import open_artifact
from tamis.errors import ArtifactError, DataError, TamisError, TrainingError
from tamis.training.crossval import LearningPart, out_of_fold, out_of_fold_logits
from tamis.training.learn import TrainSettings
from tamis.training.prepare import PrepareSettings, prepare_file
from tests.samples import messages, write_csv


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(messages(300), tmp_path / "messages.csv")


def test_training_writes_a_version_that_answers(data: Path, tmp_path: Path):
    trained = train(data, tmp_path / "spam")
    assert trained.path == (tmp_path / "spam" / "1")
    classifier = Classifier.load(tmp_path / "spam")
    assert classifier.predict("WIN a camera now! Text YES to 0123456789").label == "spam"
    assert classifier.manifest is not None
    assert classifier.manifest.metrics["accuracy"]["value"] == trained.evaluation.accuracy.value > 0.9


def test_scores_in_serving_are_those_of_training(data: Path, tmp_path: Path):
    trained = train(data, tmp_path / "spam")
    test = prepare_file(data, PrepareSettings()).test
    probabilities = Classifier.load(tmp_path / "spam").probabilities(test.texts)
    predicted = [trained.manifest.labels[k] for k in probabilities.argmax(axis=1)]
    correct = np.mean(np.asarray(predicted) == np.asarray(test.labels))
    assert correct == pytest.approx(trained.evaluation.accuracy.value)


def test_scores_are_equal_on_every_row_of_the_mixed_csv(shared_data: Path, tmp_path: Path):
    from tamis.models import make_classifier
    from tamis.models.base import Calibration
    from tamis.models.linear.weights import LinearWeights
    from tamis.text import canonical

    whole = prepare_file(shared_data / "spam-dataset.csv", PrepareSettings(split="random"))
    texts = [canonical(text) for text in [*whole.train.texts, *whole.test.texts]]
    labels = [*whole.train.labels, *whole.test.labels]
    model = make_classifier("linear", {}, seed=1).fit(texts, labels)
    described = model.export(tmp_path, Calibration(1.0, (0.0, 0.0)))
    assert described["features"]["bits"] == 18
    served = LinearWeights.from_bytes(
        (tmp_path / "weights.safetensors").read_bytes(), model.features, n_classes=2
    )
    in_batches = model.logits(texts)
    assert np.array_equal(
        in_batches, np.concatenate([served.logits(texts[:4000]), served.logits(texts[4000:])])
    )
    alone = np.concatenate([served.logits([text]) for text in texts[:500]])
    assert np.abs(alone - in_batches[:500]).max() <= 1e-6


def test_the_workshops_split_reaches_its_accuracy(shared_data: Path, tmp_path: Path):
    trained = train(
        shared_data / "spam-dataset.csv", tmp_path / "spam", prepare=PrepareSettings(split="random")
    )
    assert trained.manifest.data.train_rows == 5043
    assert trained.evaluation.rows == 2485
    assert trained.evaluation.accuracy.value >= 0.981


def test_the_same_input_and_settings_give_the_same_identity(data: Path, tmp_path: Path):
    for name in ("one", "two"):
        train(data, tmp_path / name)
    assert open_artifact(tmp_path / "one").identity == open_artifact(tmp_path / "two").identity
    train(data, tmp_path / "two", settings=TrainSettings(overrides={"c": "3"}))
    assert open_artifact(tmp_path / "one").identity != open_artifact(tmp_path / "two").identity


def test_more_than_two_classes_are_trained(tmp_path: Path):
    data = write_csv(messages(360, labels=("ham", "spam", "question")), tmp_path / "three.csv")
    trained = train(data, tmp_path / "three")
    assert trained.manifest.operating_point is None
    assert trained.evaluation.accuracy.value > 0.9
    prediction = Classifier.load(tmp_path / "three").predict("how do I return the map?")
    assert (prediction.label, len(prediction.scores)) == ("question", 3)


def test_the_operating_point_comes_from_the_training_part_alone(data: Path, tmp_path: Path):
    first = train(data, None)
    prepared = prepare_file(data, PrepareSettings())
    scores = first.manifest.operating_point
    assert scores is not None
    assert scores.expected_false_positive_rate <= 0.005
    assert scores.chosen_on.startswith("out-of-fold answers of the training part")
    assert first.manifest.data.train_rows == len(prepared.train)


def test_a_dry_run_writes_nothing(data: Path):
    before = sorted(data.parent.iterdir())
    assert train(data, None).path is None
    assert sorted(data.parent.iterdir()) == before


def test_progress_reaches_its_total(data: Path):
    seen: list[tuple[int, int]] = []
    train(data, None, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)


def test_an_interruption_leaves_nothing(data: Path, tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "spam", progress=interrupt)
    with pytest.raises(ArtifactError, match="no version"):
        open_artifact(tmp_path / "spam")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (TrainSettings(model="liner"), TrainingError, "did you mean 'linear'"),
        (TrainSettings(overrides={"d": "1"}), TrainingError, "--set d: no such setting"),
        (TrainSettings(positive="eggs"), TrainingError, "--positive eggs: the labels are ham, spam"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    data: Path, settings: TrainSettings, error: type[TamisError], message: str
):
    with pytest.raises(error, match=message):
        train(data, None, settings=settings)


def test_one_class_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="ham"):
        train(write_csv(messages(20, labels=("ham",)), tmp_path / "ham.csv"), None)


def test_a_class_with_too_few_texts_is_named(tmp_path: Path):
    rows = messages(200)
    labels = ["rare" if i < 1 else label for i, label in enumerate(rows.labels)]
    with pytest.raises(TrainingError, match="'rare' has too few different texts"):
        out_of_fold(rows.texts, labels, [str(i) for i in range(200)])


def test_out_of_fold_answers_are_by_models_that_have_not_seen_the_group():
    """Labels are random, so only a model that saw a text's twin could know its label."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghij"), 8)) for _ in range(60)]
    texts, groups = [f"{word} the same" for word in words for _ in "12"], [str(i // 2) for i in range(120)]
    labels = [str(label) for label in rng.integers(0, 2, 60) for _ in "12"]
    torn = [str(i) for i in range(120)]
    kept = _accuracy(texts, labels, groups)
    assert kept < 0.7 < 0.8 < _accuracy(texts, labels, torn)


def _accuracy(texts: list[str], labels: list[str], groups: list[str]) -> float:
    from tamis.models import make_classifier

    part = LearningPart(texts, labels, groups, folds=5)
    logits = out_of_fold_logits(lambda: make_classifier("linear", {"shapes": "false"}, seed=1), part, seed=1)
    return float(np.mean(np.asarray(["0", "1"])[logits.argmax(axis=1)] == np.asarray(labels)))
