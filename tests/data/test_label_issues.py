from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.labels import find_label_issues


def test_issues_are_sorted_when_the_model_prefers_other_labels():
    labels = ["ham"] * 10 + ["spam"] * 10
    spam = np.array([0.05] * 7 + [0.1, 0.93, 0.4] + [0.95] * 7 + [0.9, 0.02, 0.6])
    found = find_label_issues(labels, np.stack([1 - spam, spam], axis=1), ["ham", "spam"])
    assert [(one.index, one.label, one.suggested) for one in found] == [
        (18, "spam", "ham"),
        (8, "ham", "spam"),
    ]
    assert found[0].probability == 0.98


def test_the_likelier_label_is_suggested_when_there_are_three():
    labels = ["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["a"]
    usual = [[0.9, 0.05, 0.05]] * 10 + [[0.1, 0.8, 0.1]] * 10 + [[0.1, 0.2, 0.7]] * 10
    found = find_label_issues(labels, np.array([*usual, [0.05, 0.05, 0.9]]), ["a", "b", "c"])
    assert [(one.index, one.suggested) for one in found] == [(30, "c")]


@pytest.mark.parametrize(("rows", "probability"), [(9, 0.9), (10, 0.49)])
def test_no_issue_is_found_when_rows_or_probability_are_low(rows, probability):
    labels = ["a"] * rows + ["b"] * 20
    rest = (1 - probability) / 2
    of_a = [[0.9, 0.05, 0.05]] * (rows - 1) + [[rest, probability, rest]]
    of_b = [[0.2, 0.45, 0.35]] * 20
    assert find_label_issues(labels, np.array(of_a + of_b), ["a", "b", "c"]) == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
        max_size=60,
    )
)
def test_no_issue_suggests_the_given_label_for_any_probabilities(rows):
    weights = np.array([row[1:] for row in rows], float).reshape(-1, 3)
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    labels = [row[0] for row in rows]
    for one in find_label_issues(labels, probabilities, "abc"):
        given_probability = probabilities[one.index, "abc".index(one.label)]
        assert one.label == labels[one.index] != one.suggested
        assert one.probability > given_probability


def test_no_issue_is_found_when_a_class_has_no_rows():
    assert find_label_issues(["a"], np.array([[0.2, 0.8]]), ["a", "b"]) == []
