from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.suspects import find_suspects


def test_suspects_stand_most_doubtful_first_when_the_model_is_sure_of_another_label():
    labels = ["ham"] * 4 + ["spam"] * 4
    spam = np.array([0.05, 0.1, 0.93, 0.4, 0.95, 0.9, 0.02, 0.6])
    found = find_suspects(labels, np.stack([1 - spam, spam], axis=1), ["ham", "spam"])
    assert [(one.index, one.label, one.suggested) for one in found] == [
        (6, "spam", "ham"),
        (2, "ham", "spam"),
    ]
    assert found[0].probability == 0.98


def test_the_likelier_label_is_suggested_when_there_are_three():
    labels = ["a", "b", "c", "a"]
    rows = [[0.9, 0.05, 0.05], [0.1, 0.4, 0.5], [0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]
    found = find_suspects(labels, np.array(rows), ["a", "b", "c"])
    assert [(one.index, one.suggested) for one in found] == [(3, "c")]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
        max_size=30,
    )
)
def test_no_suspect_keeps_its_label_when_probabilities_are_arbitrary(rows):
    weights = np.array([row[1:] for row in rows], float).reshape(-1, 3)
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    labels = [row[0] for row in rows]
    for one in find_suspects(labels, probabilities, "abc"):
        given_probability = probabilities[one.index, "abc".index(one.label)]
        assert one.label == labels[one.index] != one.suggested
        assert one.probability > given_probability


def test_nothing_is_suspect_when_a_class_of_the_model_has_no_rows():
    assert find_suspects(["a"], np.array([[0.2, 0.8]]), ["a", "b"]) == []
