"""What a retrained model learns: training data and feedback, the latest label, a fixed part held out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.training.compare import Comparison
from tamis.training.metrics import Estimate
from tamis.training.retrain import Correction, is_held_out, is_not_worse, merge
from tamis.types import Dataset

_TEXTS = st.sampled_from([f"text {number}" for number in range(30)])
_LABELS = st.sampled_from(["ham", "spam", "new"])
_CORRECTIONS = st.lists(st.builds(Correction, _TEXTS, _LABELS), max_size=40)
_DATA = st.lists(st.tuples(_TEXTS, st.sampled_from(["ham", "spam"])), min_size=1, max_size=40)


def _dataset(rows: list[tuple[str, str]]) -> Dataset:
    return Dataset([text for text, _ in rows], [label for _, label in rows], list(range(1, len(rows) + 1)))


@given(_DATA, _CORRECTIONS)
def test_merge_learns_the_latest_label_and_holds_the_rest_out(
    rows: list[tuple[str, str]], corrections: list[Correction]
) -> None:
    merged = merge(_dataset(rows), corrections)
    latest = {one.text: one.label for one in corrections}
    for text, label in zip(merged.train.texts, merged.train.labels, strict=True):
        assert latest.get(text, label) == label
        assert text not in latest or not is_held_out(text)
    assert dict(zip(merged.held_out.texts, merged.held_out.labels, strict=True)) == {
        text: label for text, label in latest.items() if is_held_out(text)
    }
    every = {*merged.train.texts, *merged.held_out.texts}
    assert every == {text for text, _ in rows} | latest.keys(), "no text is lost"
    assert len({*merged.train.rows}) == len(merged.train)
    assert set(merged.new_labels) == set(latest.values()) - {label for _, label in rows}


def test_merge_counts_contradictions_and_disagreements() -> None:
    learned = [text for text in (f"text {number}" for number in range(30)) if not is_held_out(text)][:2]
    merged = merge(
        _dataset([(learned[0], "ham"), (learned[1], "ham")]),
        [Correction(learned[0], "spam"), Correction(learned[1], "spam"), Correction(learned[1], "ham")],
    )
    assert (merged.contradictions, merged.disagreements) == (1, 1)
    assert [*merged.train.labels] == ["spam", "ham"]


def test_about_a_fifth_is_held_out() -> None:
    share = sum(is_held_out(f"text {number}") for number in range(10_000)) / 10_000
    assert share == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value", "expected"),
    [(0, 9, 0.004, True), (5, 5, 1.0, True), (6, 4, 0.75, True), (9, 0, 0.004, False)],
)
def test_not_worse_needs_no_significant_loss(
    only_first: int, only_second: int, p_value: float, expected: bool
) -> None:
    accuracy = Estimate(0.9, 0.8, 1.0)
    comparison = Comparison(100, accuracy, accuracy, only_first, only_second, 0, accuracy, p_value)
    assert is_not_worse(comparison) is expected
