"""Explanations: exact for the linear model, by occlusion for any other."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import Classifier
from tamis.errors import InputError
from tamis.models.scorer import Explanation
from tests.support.artifacts import save_model
from tests.support.fakes import keyword_classifier

SPAM = "WIN a camera now! Text YES to 0123456789"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(save_model(tmp_path_factory.mktemp("models") / "spam"))


def added_up(explanation: Explanation) -> float:
    return math.fsum(
        [explanation.base, explanation.whole, *(token.contribution for token in explanation.tokens)]
    )


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_explanation_tokens_and_intercept_sum_to_the_logit(classifier: Classifier, text: str):
    explanation = classifier.explain(text, "spam")
    probability = classifier.predict(text).scores["spam"]
    assert added_up(explanation) == pytest.approx(explanation.logit, abs=1e-9)
    assert 1 / (1 + math.exp(-explanation.logit)) == pytest.approx(probability, abs=1e-9)
    assert explanation.probability == probability
    assert explanation.base + sum(explanation.families.values()) == pytest.approx(explanation.logit, abs=1e-9)


def test_the_tokens_are_what_blanks_divide(classifier: Classifier):
    explanation = classifier.explain(f"  {SPAM}\n")
    assert explanation.text == SPAM
    assert explanation.label == "spam"
    assert [token.text for token in explanation.tokens] == SPAM.split()
    assert all(SPAM[token.start : token.end] == token.text for token in explanation.tokens)
    assert explanation.tokens[0].contribution > 0


def test_the_most_probable_label_is_explained_when_none_is_named(classifier: Classifier):
    assert classifier.explain("see you at the library").label == "ham"


def test_logits_of_three_labels_give_their_probabilities(tmp_path: Path):
    classifier = Classifier.load(save_model(tmp_path / "three", labels=("ham", "spam", "question")))
    logits = [classifier.explain(SPAM, label).logit for label in classifier.labels]
    exponentials = [math.exp(logit) for logit in logits]
    scores = classifier.predict(SPAM).scores
    assert [e / sum(exponentials) for e in exponentials] == pytest.approx(list(scores.values()), abs=1e-9)


def test_a_label_that_the_model_does_not_know_is_refused(classifier: Classifier):
    with pytest.raises(InputError, match="'eggs' is none of the labels ham, spam"):
        classifier.explain(SPAM, "eggs")


def test_occlusion_is_the_fall_of_the_log_odds_without_a_token():
    classifier = keyword_classifier()
    explanation = classifier.explain("claim the free thing", "spam")
    whole = classifier.predict("claim the free thing").scores["spam"]
    without = classifier.predict("the free thing").scores["spam"]
    fall = math.log(whole / (1 - whole)) - math.log(without / (1 - without))
    assert explanation.method == "occlusion"
    assert explanation.tokens[0].contribution == pytest.approx(fall)
    assert explanation.tokens[0].contribution > 0 > explanation.tokens[1].contribution
    assert explanation.families == {}
    assert added_up(explanation) == pytest.approx(explanation.logit, abs=1e-9)


def test_an_empty_text_has_no_tokens():
    explanation = keyword_classifier().explain(" \u200b ")
    assert explanation.tokens == ()
    assert explanation.logit == explanation.base
