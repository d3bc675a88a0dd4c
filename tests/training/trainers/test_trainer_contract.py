"""The contract of every trainable classifier: encoded texts are texts, out-of-fold logits are just that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tamis.errors import TrainingError
from tamis.training.trainers import make_trainer
from tamis.training.trainers.base import EncodedTexts, Trainer
from tests.support.networks import SMALL
from tests.support.samples import messages

LABELS = ("ham", "spam", "question")
MAKERS: dict[str, Callable[[], Trainer]] = {
    "linear": lambda: make_trainer("linear", {}, seed=3),
    "lstm": lambda: make_trainer("lstm", {name: str(value) for name, value in SMALL.items()}, seed=3),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], Trainer]:
    return MAKERS[request.param]


def test_encoded_texts_are_the_texts_they_came_from(make):
    texts = messages(40).texts
    encoded = make().encode(texts)
    assert list(encoded) == texts and len(encoded) == 40
    assert list(encoded[5:20:3]) == texts[5:20:3]
    assert list(encoded.select([7, 3, 7])) == [texts[7], texts[3], texts[7]]
    assert isinstance(encoded.select([7, 3]), EncodedTexts)


def test_encoded_rows_give_the_model_of_the_plain_texts(make):
    data, rows = messages(90, labels=LABELS), [*range(0, 90, 2)]
    part = data.select(rows)
    encoded = make().encode(data.texts)
    one = make().fit(part.texts, part.labels)
    other = make().fit(encoded.select(rows), part.labels)
    assert np.array_equal(one.logits(data.texts), other.logits(data.texts))
    assert np.array_equal(one.logits(data.texts), one.logits(encoded))


def test_cross_fitted_rows_are_scored_by_the_others(make):
    data = messages(60, labels=LABELS)
    fold_of = np.arange(60) // 3 % 3 - 1
    logits = make().cross_fit(data.texts, data.labels, fold_of)
    assert logits.shape == (60, 3) and logits.dtype == np.float64
    assert np.isnan(logits[fold_of == -1]).all()
    for fold in (0, 1):
        part = data.select(np.flatnonzero(fold_of != fold).tolist())
        model = make().fit(part.texts, part.labels)
        inside = data.select(np.flatnonzero(fold_of == fold).tolist())
        assert np.array_equal(logits[fold_of == fold], model.logits(inside.texts))


def test_cross_fit_leaves_the_classifier_untrained(make):
    data, classifier, seen = messages(40), make(), []
    classifier.cross_fit(
        classifier.encode(data.texts),
        data.labels,
        np.arange(40) // 2 % 2,
        progress=lambda *at: seen.append(at),
    )
    assert not hasattr(classifier, "classes_")
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_cross_fit_refuses_a_label_of_one_fold_only(make):
    data = messages(60, labels=LABELS)
    fold_of = np.array([2 if label == "spam" else row % 2 for row, label in enumerate(data.labels)])
    with pytest.raises(TrainingError, match="'spam': all of its rows are in one fold"):
        make().cross_fit(data.texts, data.labels, fold_of)
