from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.data.labels import LabelProblem, label_problems, normalise_label


def test_label_has_one_spelling_when_blanks_or_form_differ():
    assert normalise_label(" cafe\u0301\u00a0") == "caf\u00e9"
    assert normalise_label("\tham ") == "ham"


@pytest.mark.parametrize(
    ("one", "other"),
    [("ham", "HAM"), ("1", "1.0"), ("0", "0.00"), ("1", "01"), ("１", "1"), ("a  b", "a b"), ("-1", "-1.0")],
)
def test_labels_are_variants_when_they_are_probably_one(one: str, other: str):
    assert label_problems({one: 3, "third": 5, other: 2}) == (LabelProblem("variants", {one: 3, other: 2}),)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "10"), ("1", "-1"), ("ham", "hams"), ("1.5", "1"), ("0", "1")]
)
def test_labels_are_no_variants_when_they_differ(one: str, other: str):
    assert label_problems({one: 3, other: 2}) == ()


@pytest.mark.parametrize("label", ["nan", "NULL", "N/A", "-", "None", "(empty)"])
def test_label_is_a_placeholder_when_it_stands_for_none(label: str):
    (problem,) = label_problems({label: 4, "ham": 9})
    assert str(problem) == f"{label!r} (4) may mean a missing label"


def test_message_is_short_when_there_are_many_variants():
    rows = {"ham".replace("a", "a" * n): 1 for n in range(3)} | {f"x{' ' * n}y": 1 for n in range(1, 20)}
    (problem,) = label_problems(rows)
    assert str(problem).endswith("and 13 more may be one label")


@given(st.text())
def test_normalising_twice_changes_nothing_for_any_label(label: str):
    assert normalise_label(normalise_label(label)) == normalise_label(label)
