"""The most top features get back the words that their hashed numbers stand for."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.models.linear.features import FeatureSettings, count_features
from tamis.training.trainers.linear.top_features import name_sizes
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.samples import messages


@pytest.fixture(scope="module")
def data():
    return messages(240, labels=("ham", "spam", "question"))


def test_top_features_of_each_class_are_sorted_by_weight(data):
    model = LinearTrainer().fit(data.texts, data.labels)
    top = model.top_features(data.texts, max_features=30)
    assert list(top) == ["ham", "question", "spam"]
    for features in top.values():
        weights = [feature.weight for feature in features]
        assert len(weights) == 30
        assert weights == sorted(weights, reverse=True)
        assert min(weights) > 0
    names = {feature.name.strip() for feature in top["question"]}
    assert names & {"?", "is", "what time", "how do", "how", "why", "in stock"}


def test_two_classes_have_features_of_their_own():
    data = messages(200)
    top = LinearTrainer().fit(data.texts, data.labels).top_features(data.texts, max_features=10)
    assert not set(top["ham"]) & set(top["spam"])


def test_a_name_is_a_piece_of_a_training_text_in_its_family(data):
    model = LinearTrainer(shapes=False).fit(data.texts, data.labels)
    lowered = [f" {text.lower()} " for text in data.texts]
    for features in model.top_features(data.texts, max_features=50).values():
        for feature in features:
            assert feature.family in {"words", "word pairs", "n-grams"}
            assert any(feature.name in text for text in lowered)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a" * 40, {"30–42 characters", "0 capitals", "0 digits"}),
        ("ABCD 1", {"6–8 characters", "4–5 capitals", "1 digits"}),
    ],
)
def test_the_sizes_of_a_text_are_named_by_their_range(text: str, said: set[str]):
    settings = FeatureSettings()
    names, counted = name_sizes(settings), count_features([text], settings)
    assert {names[int(n)] for n in counted.features if int(n) in names} == said


def test_no_size_is_named_when_shapes_are_left_out():
    assert name_sizes(FeatureSettings(shapes=False)) == {}


def test_a_number_keeps_one_name_when_texts_are_reversed(data):
    model = LinearTrainer().fit(data.texts, data.labels)
    forward, backward = (
        model.top_features(texts, max_features=50) for texts in (data.texts, data.texts[::-1])
    )
    assert forward == backward


def test_weights_are_those_of_the_model(data):
    model = LinearTrainer().fit(data.texts, data.labels)
    heaviest = model.top_features(data.texts, max_features=1)["spam"][0]
    assert np.isclose(heaviest.weight, model.weights_.weights[:, 2].max())
