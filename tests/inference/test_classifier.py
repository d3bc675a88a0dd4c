"""Texts in, predictions out."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import Classifier
from tests.support.artifacts import save_model

SPAM, HAM = "WIN a camera now! Text YES to 0123456789", "are you coming to the library on friday?"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(save_model(tmp_path_factory.mktemp("models") / "spam"))


def test_a_prediction_names_every_label(classifier: Classifier):
    prediction = classifier.predict(SPAM)
    assert list(prediction.scores) == ["ham", "spam"]
    assert sum(prediction.scores.values()) == pytest.approx(1)
    assert (prediction.label, prediction.score) == ("spam", prediction.scores["spam"])
    assert classifier.predict(HAM).label == "ham"


def test_answers_keep_the_order_of_the_texts(classifier: Classifier):
    labels = [prediction.label for prediction in classifier.predict_many([SPAM, HAM, HAM, SPAM] * 400)]
    assert labels == ["spam", "ham", "ham", "spam"] * 400


def test_no_texts_give_no_answers(classifier: Classifier):
    assert classifier.predict_many([]) == []
    assert classifier.probabilities([]).shape == (0, 2)


@given(st.lists(st.text(max_size=50), min_size=1, max_size=6))
@settings(max_examples=100)
def test_an_answer_does_not_depend_on_the_texts_beside_it(classifier: Classifier, texts: list[str]):
    for text, together in zip(texts, classifier.predict_many(texts), strict=True):
        alone = classifier.predict(text)
        assert abs(alone.score - together.score) <= 1e-6


@pytest.mark.parametrize(
    "variant",
    [
        f"  {SPAM}\n",
        SPAM.replace(" ", "\u00a0"),
        SPAM.replace("WIN", "W\u200bIN"),
        SPAM.replace("W", "\uff37"),
    ],
)
def test_texts_of_one_canonical_form_get_one_answer(classifier: Classifier, variant: str):
    assert classifier.predict(variant) == classifier.predict(SPAM)


def test_the_decision_is_made_at_the_operating_point(classifier: Classifier):
    predictions = classifier.predict_many([f"{HAM} {SPAM}"[start:] for start in range(60)] + [SPAM, HAM])
    for prediction in predictions:
        assert prediction.decision == ("spam" if prediction.scores["spam"] >= 0.9 else "ham")
    assert any(prediction.decision != prediction.label for prediction in predictions)


def test_the_decision_is_the_label_when_there_are_more_than_two(tmp_path: Path):
    classifier = Classifier.load(save_model(tmp_path / "three", labels=("ham", "spam", "question")))
    prediction = classifier.predict("why was my order of the map sent to the gym?")
    assert prediction.label == prediction.decision == "question"


def test_threads_get_the_answers_that_one_gets(classifier: Classifier):
    expected, wrong = classifier.predict_many([SPAM, HAM]), []

    def ask() -> None:
        for _ in range(50):
            if classifier.predict_many([SPAM, HAM]) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_progress_counts_texts(classifier: Classifier):
    seen: list[tuple[int, int]] = []
    classifier.probabilities([HAM] * 1500, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1024, 1500), (1500, 1500)]


@pytest.mark.parametrize(("text", "label"), [("even", "ham"), ("odd", "spam"), ("", "ham"), ("é", "spam")])
def test_mock_answers_by_the_parity_of_the_length(text: str, label: str):
    prediction = Classifier.mock().predict(text)
    assert prediction.label == label
    assert prediction.scores == {"ham": float(label == "ham"), "spam": float(label == "spam")}


def test_mock_of_three_labels_answers_by_the_length():
    mock = Classifier.mock(("a", "b", "c"))
    assert [mock.predict("x" * length).label for length in range(4)] == ["a", "b", "c", "a"]
    assert mock.probabilities([]).shape == (0, 3)
