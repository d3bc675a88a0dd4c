"""The surest mistakes come first, with the place where they can be looked up."""

from __future__ import annotations

import numpy as np

from tamis.training.out_of_fold import Misclassification, most_confident_errors
from tamis.types import Dataset

DATA = Dataset(
    texts=["one", "two", "three", "four"],
    labels=["ham", "spam", "ham", "spam"],
    rows=[4, 7, 9, 12],
    sources=["web", "web", "phone", "phone"],
)
PROBABILITIES = np.array([[0.1, 0.9], [0.3, 0.7], [0.02, 0.98], [0.6, 0.4]])


def test_the_most_confident_mistake_is_first():
    found = most_confident_errors(DATA, PROBABILITIES, ("ham", "spam"))
    assert [mistake.row for mistake in found] == [9, 4, 12]
    assert found[0] == Misclassification(9, "three", "ham", "spam", 0.98, "phone")


def test_only_so_many_are_named():
    assert [m.row for m in most_confident_errors(DATA, PROBABILITIES, ("ham", "spam"), max_errors=1)] == [9]


def test_there_are_none_when_all_is_right():
    assert most_confident_errors(DATA.select([1]), PROBABILITIES[[1]], ("ham", "spam")) == ()
