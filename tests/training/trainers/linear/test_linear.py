"""The linear model: the same features and scores in training and in serving, whatever is beside a text."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from tamis.errors import ArtifactError, TrainingError
from tamis.models.linear.features import FeatureSettings, count_features
from tamis.models.linear.weights import LinearWeights
from tamis.training.trainers import hyper_parameters, make_trainer
from tamis.training.trainers.base import Calibration, softmax
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.samples import messages

TEXTS = st.lists(st.text(max_size=60), max_size=8)


@pytest.fixture(scope="module")
def model() -> LinearTrainer:
    data = messages(200)
    return LinearTrainer().fit(data.texts, data.labels)


@pytest.fixture(scope="module")
def three_classes() -> LinearTrainer:
    data = messages(240, labels=("ham", "spam", "question"))
    return LinearTrainer().fit(data.texts, data.labels)


@given(TEXTS)
@settings(max_examples=150)
def test_features_of_a_text_do_not_depend_on_its_neighbours(texts: list[str]):
    together = count_features(texts, FeatureSettings())
    for i, text in enumerate(texts):
        alone, mine = count_features([text], FeatureSettings()), together.texts == i
        assert alone.features.tolist() == together.features[mine].tolist()
        assert alone.counts.tolist() == together.counts[mine].tolist()


@given(st.lists(st.text("abc DE?1", max_size=30), min_size=1, max_size=6))
@settings(max_examples=100)
def test_character_ngrams_are_those_of_scikit_learn(texts: list[str]):
    canonical = [" ".join(text.split()) for text in texts]
    settings = FeatureSettings(word_pairs=False, shapes=False, bits=24)
    words = TfidfVectorizer(lowercase=True, token_pattern=r"\w+|[^\w\s]").build_analyzer()
    ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()
    counts = count_features(canonical, settings)
    for i, text in enumerate(canonical):
        expected = sorted(np.unique(words(text), return_counts=True)[1].tolist() if words(text) else [])
        expected += np.unique(ngrams(text), return_counts=True)[1].tolist() if ngrams(text) else []
        assert sorted(counts.counts[counts.texts == i].tolist()) == sorted(expected)


@given(st.lists(st.text("ab C?", max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_phrases_are_three_words_and_six_characters_with_a_blank(texts: list[str]):
    texts = [" ".join(text.split()) for text in texts]
    without, added = FeatureSettings(bits=24), FeatureSettings(bits=24, phrases=True)
    for text in texts:
        words, padded = re.findall(r"\w+|[^\w\s]", text), f" {text} "
        runs = [padded[i : i + 6] for i in range(len(padded) - 5)]
        expected = max(0, len(words) - 2) + sum(" " in run[1:-1] for run in runs)
        sums = [int(count_features([text], kinds).counts.sum()) for kinds in (without, added)]
        assert sums[1] - sums[0] == expected


def test_settings_that_say_nothing_of_phrases_mean_none():
    stored = {"ngram_min": 2, "ngram_max": 5, "word_pairs": True, "shapes": True, "bits": 20}
    assert not msgspec.convert(stored, FeatureSettings).phrases


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_logits_are_the_same_alone_and_in_a_batch(model: LinearTrainer, texts: list[str]):
    together = model.logits(texts)
    for i, text in enumerate(texts):
        assert np.abs(model.logits([text])[0] - together[i]).max() <= 1e-12


def test_logits_are_finite_when_a_text_is_empty_or_unknown(model: LinearTrainer):
    logits = model.logits(["", "☃☃☃", "\ud800", "x" * 100_000])
    assert np.isfinite(logits).all()


def test_two_classes_have_opposite_logits(model: LinearTrainer):
    logits = model.logits(["WIN a prize", "see you at the library"])
    assert np.array_equal(logits[:, 0], -logits[:, 1])
    assert logits.argmax(axis=1).tolist() == [1, 0]


def test_labels_are_learned_when_there_are_three(three_classes: LinearTrainer):
    data = messages(90, labels=("ham", "spam", "question"), seed=99)
    predicted = [three_classes.classes_[k] for k in three_classes.logits(data.texts).argmax(axis=1)]
    assert np.mean(np.asarray(predicted) == np.asarray(data.labels)) > 0.95


@pytest.mark.parametrize("threads", ["1", "4"])
def test_weights_are_the_same_bits_at_any_thread_count(threads: str, model: LinearTrainer):
    program = (
        "import sys; from tests.support.samples import messages; data = messages(200)\n"
        "from tamis.training.trainers.linear.trainer import LinearTrainer as L\n"
        "sys.stdout.buffer.write(L().fit(data.texts, data.labels).weights_.to_bytes())"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads), "PYTHONHASHSEED": threads}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=environment, cwd=_root()
    )
    assert run.stdout == model.weights_.to_bytes()


@pytest.mark.parametrize("fixture", ["model", "three_classes"])
def test_scaling_calibrates_when_it_is_folded_into_the_weights(fixture: str, request: pytest.FixtureRequest):
    model: LinearTrainer = request.getfixturevalue(fixture)
    n_classes = len(model.classes_)
    calibration = Calibration(1.7, tuple(np.linspace(-0.4, 0.3, n_classes)))
    folded = model.weights_.scaled(calibration.scale, np.asarray(calibration.bias))
    texts = messages(50, seed=5).texts
    assert np.abs(softmax(folded.logits(texts)) - calibration(model.logits(texts))).max() < 1e-6


def test_class_weights_raise_recall_when_a_class_is_rare():
    data = messages(400)
    kept = [i for i in range(400) if data.labels[i] == "ham" or i < 14]
    rare = data.select(kept)
    spam = messages(100, labels=("spam",), seed=3).texts
    plain = LinearTrainer(c=0.05).fit(rare.texts, rare.labels).logits(spam)[:, 1]
    balanced = LinearTrainer(c=0.05, class_weight="balanced").fit(rare.texts, rare.labels).logits(spam)[:, 1]
    assert (balanced > 0).mean() > (plain > 0).mean()


def test_fit_refuses_a_single_class():
    with pytest.raises(TrainingError, match="two classes"):
        LinearTrainer().fit(["a", "b"], ["ham", "ham"])


def test_fit_refuses_texts_that_share_nothing():
    with pytest.raises(TrainingError, match="no feature is in 2 texts or more"):
        LinearTrainer(shapes=False, min_documents=2).fit(["abc", "xyz"], ["a", "b"])


def test_settings_are_read_from_text_by_type():
    made = make_trainer("linear", {"c": "8", "word_pairs": "false", "class_weight": "balanced"}, seed=3)
    assert isinstance(made, LinearTrainer)
    assert (made.c, made.features.word_pairs, made.class_weight, made.seed) == (8.0, False, "balanced", 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ngram_maxx": "5"}, "did you mean 'ngram_max'"),
        ({"c": "much"}, "--set c=much"),
        ({"class_weight": "some"}, "--set class_weight=some"),
        ({"bits": "40"}, "bits must be"),
        ({"ngram_min": "1"}, "n-grams must be"),
    ],
)
def test_settings_are_refused_with_the_name(overrides: dict[str, str], message: str):
    with pytest.raises(TrainingError, match=message):
        make_trainer("linear", overrides, seed=1)


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(TrainingError, match="did you mean 'linear'"):
        make_trainer("liner", {}, seed=1)


def test_hyper_parameters_are_named_with_their_defaults():
    assert hyper_parameters("linear")["c"] == 1.0


class TestBroken:
    """Weights that do not fit are refused before they are used."""

    @staticmethod
    def read(model: LinearTrainer, *, n_classes: int = 2, **changes: np.ndarray) -> LinearWeights:
        data = dataclasses.replace(model.weights_, **changes).to_bytes()
        return LinearWeights.from_bytes(data, model.features, n_classes=n_classes)

    def test_weights_read_back_as_they_were(self, model: LinearTrainer):
        assert np.array_equal(self.read(model).logits(["hello"]), model.logits(["hello"]))

    @pytest.mark.parametrize("n_classes", [3, 5])
    def test_other_labels_are_refused(self, model: LinearTrainer, n_classes: int):
        with pytest.raises(ArtifactError, match=f"{n_classes} labels need"):
            self.read(model, n_classes=n_classes)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_weights_that_are_no_numbers_are_refused(self, model: LinearTrainer, bad: float):
        weights = model.weights_.weights.copy()
        weights[3] = bad
        with pytest.raises(ArtifactError, match="not finite"):
            self.read(model, weights=weights)

    def test_features_out_of_order_are_refused(self, model: LinearTrainer):
        with pytest.raises(ArtifactError, match="ascending"):
            self.read(model, features=model.weights_.features[::-1])

    def test_features_out_of_range_are_refused(self, model: LinearTrainer):
        features = model.weights_.features.copy()
        features[-1] = model.features.n_numbers
        with pytest.raises(ArtifactError, match="out of range"):
            self.read(model, features=features)

    def test_a_wrong_type_is_refused(self, model: LinearTrainer):
        tensors = safetensors.numpy.load(model.weights_.to_bytes())
        data = safetensors.numpy.save({**tensors, "idf": tensors["idf"].astype(np.float64)})
        with pytest.raises(ArtifactError, match="idf is float64"):
            LinearWeights.from_bytes(data, model.features, n_classes=2)

    def test_bytes_that_are_no_tensors_are_refused(self, model: LinearTrainer):
        with pytest.raises(ArtifactError, match="safetensors format"):
            LinearWeights.from_bytes(b"\xff" * 100, model.features, n_classes=2)

    def test_a_header_longer_than_the_file_is_refused(self, model: LinearTrainer):
        data = (1 << 40).to_bytes(8, "little") + model.weights_.to_bytes()[8:]
        with pytest.raises(ArtifactError, match="safetensors format"):
            LinearWeights.from_bytes(data, model.features, n_classes=2)


def _root() -> Path:
    return Path(__file__).parents[4]
