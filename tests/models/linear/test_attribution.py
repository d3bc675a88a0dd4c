"""What each character adds to a linear model's logit: complete, and at the right characters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import ngrams
from tamis.models.linear.features import FeatureSettings, count_features, locate_features
from tamis.models.linear.scorer import attribute
from tamis.training.trainers.linear.top_features import shape_of
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.samples import messages

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("ab DE?1  .")), max_size=60)


@pytest.fixture(scope="module")
def model() -> LinearTrainer:
    data = messages(200)
    return LinearTrainer().fit(data.texts, data.labels)


@pytest.fixture(scope="module")
def three_classes() -> LinearTrainer:
    data = messages(240, labels=("ham", "spam", "question"))
    return LinearTrainer().fit(data.texts, data.labels)


@given(st.lists(TEXTS, max_size=4), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_attribution_located_features_equal_counted_features(
    texts: list[str], shapes: bool, word_pairs: bool, phrases: bool
):
    wanted = FeatureSettings(shapes=shapes, word_pairs=word_pairs, phrases=phrases)
    counts, joined = count_features(texts, wanted), ngrams.join_texts(texts)
    located = locate_features(joined, wanted)
    if not texts:
        assert located.features.size == 0
        return
    owners = joined.owners[located.spans.starts]
    found = np.unique(np.stack([owners, located.features]), axis=1, return_counts=True)
    assert found[0].tolist() == [counts.texts.tolist(), counts.features.tolist()]
    assert found[1].tolist() == counts.counts.tolist()
    assert (joined.owners[np.maximum(located.spans.ends, 1) - 1] <= owners).all(), "within one text"


@given(st.one_of(TEXTS, st.sampled_from(messages(60, seed=3).texts)), st.integers(0, 1))
@settings(max_examples=200, deadline=None)
def test_contributions_and_intercept_sum_to_the_log_odds(model: LinearTrainer, text: str, column: int):
    found, logits = attribute(model.weights_, text, column), model.logits([text])[0]
    assert found.logit == pytest.approx(logits[column] - logits[1 - column], abs=1e-9)
    assert found.intercept + found.characters.sum() + found.whole == pytest.approx(found.logit, abs=1e-9)
    assert found.intercept + sum(found.families.values()) == pytest.approx(found.logit, abs=1e-9)
    assert found.characters.shape == (len(text),)


@given(st.sampled_from(messages(60, seed=3).texts), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_attribution_of_three_labels_sums_to_each_logit(three_classes: LinearTrainer, text: str, column: int):
    found = attribute(three_classes.weights_, text, column)
    assert found.logit == pytest.approx(three_classes.logits([text])[0, column], abs=1e-9)
    assert found.intercept + found.characters.sum() + found.whole == pytest.approx(found.logit, abs=1e-9)


def test_two_classes_are_explained_by_opposite_numbers(model: LinearTrainer):
    ham, spam = (attribute(model.weights_, "WIN a camera now!", column) for column in (0, 1))
    assert np.array_equal(ham.characters, -spam.characters)
    assert (ham.intercept, ham.whole) == (-spam.intercept, -spam.whole)


def test_a_known_word_contributes_at_its_own_characters(model: LinearTrainer):
    text = "zzzz WIN qqqq"
    characters = attribute(model.weights_, text, 1).characters
    assert characters[5:8].sum() > 3 * abs(characters[9:].sum())
    assert characters[4] == characters[8] == 0, "a blank is no token's"


def test_blanks_share_nothing_when_there_are_several(model: LinearTrainer):
    characters = attribute(model.weights_, "WIN  \t a camera", 1).characters
    assert (characters[3:7] == 0).all()


def test_a_shape_cuts_runs_at_four():
    assert [shape_of(piece) for piece in ("Hello", "123456", "a", "Ok !!!!!!")] == [
        "Xxxxx",
        "dddd",
        "x",
        "Xx !!!!",
    ]
