"""McNemar's test: against scipy's binomial test, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tamis.errors import DataError
from tamis.training.compare import compare, mcnemar


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_the_p_value_is_that_of_the_exact_binomial_test(first: int, second: int):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_many_disagreements_are_counted_exactly():
    assert mcnemar(20_000, 20_000) == 1.0
    assert 0 < mcnemar(19_000, 20_000) < 1e-6


def answers(right: list[bool]) -> np.ndarray:
    """Answer rows that are all of class 0."""
    return np.array([[0.9, 0.1] if yes else [0.2, 0.8] for yes in right])


def test_rows_are_counted_by_who_has_them_right():
    first = answers([True] * 60 + [False] * 40)
    second = answers([True] * 55 + [False] * 5 + [True] * 30 + [False] * 10)
    found = compare(first, second, ["a"] * 100, ["a", "b"])
    assert (found.only_first, found.only_second, found.both_wrong) == (5, 30, 10)
    assert (found.first.value, found.second.value) == (0.6, 0.85)
    assert found.difference.value == pytest.approx(0.25)
    assert 0.1 < found.difference.low < 0.25 < found.difference.high < 0.4
    assert found.p_value == pytest.approx(binomtest(5, 35).pvalue)


def test_a_model_does_not_differ_from_itself():
    same = answers([True, False, True])
    found = compare(same, same, ["a", "a", "b"], ["a", "b"])
    assert (found.p_value, found.difference.value) == (1.0, 0.0)


def test_unknown_labels_and_no_rows_are_refused():
    with pytest.raises(DataError, match="does not have: 'eggs'"):
        compare(answers([True]), answers([True]), ["eggs"], ["a", "b"])
    with pytest.raises(DataError, match="no row"):
        compare(np.zeros((0, 2)), np.zeros((0, 2)), [], ["a", "b"])
