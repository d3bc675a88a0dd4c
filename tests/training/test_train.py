"""The whole line: a CSV file to a saved, measured version, honest and reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier, train
from tamis.artifact import open_artifact
from tamis.errors import ArtifactError, DataError, TamisError, TrainingError
from tamis.training.compare import read_held_out
from tamis.training.fit import TrainSettings
from tamis.training.out_of_fold import LearningPart, out_of_fold, out_of_fold_logits
from tamis.training.prepare import PrepareSettings, Split, prepare_file
from tamis.training.train import Trained
from tamis.training.trainers.base import EncodedTexts
from tamis.types import Dataset
from tests.support.samples import messages, write_csv


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
    from tamis.models.linear.weights import LinearWeights
    from tamis.normalization import canonical
    from tamis.training.trainers import make_trainer
    from tamis.training.trainers.base import Calibration

    whole = prepare_file(shared_data / "spam-dataset.csv", PrepareSettings(split="random"))
    texts = [canonical(text) for text in [*whole.train.texts, *whole.test.texts]]
    labels = [*whole.train.labels, *whole.test.labels]
    model = make_trainer("linear", {}, seed=1).fit(texts, labels)
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


def test_train_saves_a_model_of_all_rows_and_says_so(data: Path, tmp_path: Path):
    said: list[str] = []
    trained = train(data, tmp_path / "spam", log=said.append)
    facts = trained.manifest.data
    assert facts.learned_rows == facts.train_rows + facts.test_rows == 300
    assert facts.has_learned_all_rows
    measured = train(data, tmp_path / "spam", settings=TrainSettings(refit=False))
    assert measured.manifest.data.learned_rows == measured.manifest.data.train_rows
    assert measured.evaluation == trained.evaluation, "what is measured is the same model"
    models = [Classifier.load(tmp_path / f"spam@{version}") for version in (1, 2)]
    texts = prepare_file(data, PrepareSettings()).test.texts
    all_rows, train_part = (model.probabilities(texts) for model in models)
    assert not np.array_equal(all_rows, train_part)
    assert np.bincount(train_part.argmax(axis=1)).tolist() == _predicted(measured).tolist()


def test_train_keeps_held_out_predictions_in_its_order(data: Path, tmp_path: Path):
    trained = train(data, tmp_path / "spam")
    test = prepare_file(data, PrepareSettings()).test
    assert trained.path is not None
    held_out = read_held_out(open_artifact(trained.path))
    right = np.asarray(trained.manifest.labels)[held_out] == np.asarray(test.labels)
    assert right.mean() == pytest.approx(trained.evaluation.accuracy.value)


def test_train_learns_rare_labels_and_names_them_once(tmp_path: Path):
    rows = messages(200)
    labels = [*rows.labels, "invoice", "newsletter"]
    more = Dataset([*rows.texts, "pay me", "read me"], labels, list(range(1, 203)))
    said: list[str] = []
    trained = train(write_csv(more, tmp_path / "rare.csv"), tmp_path / "spam", log=said.append)
    assert trained.manifest.labels == ("ham", "invoice", "newsletter", "spam")
    assert trained.manifest.data.unmeasured == {"invoice": 1, "newsletter": 1}
    (line,) = [line for line in said if "not measured" in line]
    assert "'invoice' (1 row), 'newsletter' (1 row)" in line
    bias = trained.manifest.calibration["bias"]
    assert bias[1] == bias[2] == 0.0, "they take the shared calibration"


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_train_learns_a_label_of_one_template(tmp_path: Path, split: Split):
    rows = messages(120)
    texts = [*rows.texts, *(f"your code is {n}" for n in range(100, 140))]
    data = Dataset(texts, [*rows.labels, *["otp"] * 40], list(range(1, 161)))
    trained = train(write_csv(data, tmp_path / "otp.csv"), None, prepare=PrepareSettings(split=split))
    assert trained.manifest.labels == ("ham", "otp", "spam")
    if split == "grouped":
        assert trained.manifest.data.unmeasured == {"otp": 40}


def test_train_without_anything_to_measure_names_all_labels(tmp_path: Path):
    texts = [f"your code is {n}" for n in range(9)] + [f"hello again, number {n}" for n in range(5)]
    data = Dataset(texts, ["otp"] * 9 + ["hello"] * 5, list(range(1, 15)))
    with pytest.raises(DataError, match=r"two distinct.*'hello' \(5 rows\), 'otp' \(9 rows\); add texts"):
        train(write_csv(data, tmp_path / "two.csv"), None)


def test_train_says_when_calibration_is_rolled_back(tmp_path: Path):
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(60)]
    data = Dataset(texts, [str(label) for label in rng.integers(0, 2, 60)], list(range(1, 61)))
    said: list[str] = []
    trained = train(write_csv(data, tmp_path / "noise.csv"), None, log=said.append)
    rolled_back = [line for line in said if line.startswith("calibration rolled back")]
    assert len(rolled_back) == (not trained.manifest.calibration["kept"])


def test_manifest_of_many_labels_stays_small(tmp_path: Path):
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in range(480)]
    texts = [f"{words[4 * k + i]} {words[4 * k]} {words[479 - k - i]}" for k in range(120) for i in range(4)]
    data = Dataset(texts, [f"label {k}" for k in range(120) for _ in range(4)], list(range(1, 481)))
    trained = train(write_csv(data, tmp_path / "many.csv"), None)
    assert trained.manifest.metrics["confusion"] == []
    assert len(trained.manifest.to_bytes()) < 120 * 1000


def _predicted(trained: Trained) -> np.ndarray:
    return np.sum(trained.evaluation.confusion, axis=0)


def test_a_dry_run_writes_nothing(data: Path):
    before = sorted(data.parent.iterdir())
    assert train(data, None).path is None
    assert sorted(data.parent.iterdir()) == before


def test_progress_reaches_its_total(data: Path):
    seen: list[tuple[int, int]] = []
    train(data, None, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 7)
    assert seen[-1] == (7, 7)


def test_an_interruption_leaves_nothing(data: Path, tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "spam", progress=interrupt)
    with pytest.raises(ArtifactError, match="no such model"):
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


def test_out_of_fold_keeps_a_rare_label_in_training(tmp_path: Path):
    rows = messages(200)
    labels = ["rare" if i < 1 else label for i, label in enumerate(rows.labels)]
    probabilities, classes = out_of_fold(rows.texts, labels, [str(i) for i in range(200)])
    assert classes == ("ham", "rare", "spam")
    assert probabilities[0].tolist() == [0.0, 1.0, 0.0], "nothing is known against a row never held out"
    assert np.isfinite(probabilities).all()


def test_out_of_fold_answers_by_models_that_have_not_seen_group():
    """Labels are random, so only a model that saw a text's twin could know its label."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghij"), 8)) for _ in range(60)]
    texts, groups = [f"{word} the same" for word in words for _ in "12"], [str(i // 2) for i in range(120)]
    labels = [str(label) for label in rng.integers(0, 2, 60) for _ in "12"]
    torn = [str(i) for i in range(120)]
    kept = _accuracy(texts, labels, groups)
    assert kept < 0.7 < 0.8 < _accuracy(texts, labels, torn)


def _accuracy(texts: list[str], labels: list[str], groups: list[str]) -> float:
    from tamis.training.trainers import make_trainer

    part = LearningPart(EncodedTexts(texts), labels, groups, folds=5)
    logits = out_of_fold_logits(lambda: make_trainer("linear", {"shapes": "false"}, seed=1), part, seed=1)
    return float(np.mean(np.asarray(["0", "1"])[logits.argmax(axis=1)] == np.asarray(labels)))
