from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.data.labels import SHAPES, find_shortcuts


def texts_and_labels() -> tuple[list[str], list[str]]:
    """100 ham and 50 spam; 40 of the spam hold a long number, as one of the ham does, and 25 say 'prize'."""
    ham = [f"see you at {number % 12} then" for number in range(99)] + ["the code is 12345"]
    spam = [f"call {10_000 + number} today" + (" prize" if number < 25 else "") for number in range(40)]
    return ham + spam + ["hello from a stranger"] * 10, ["ham"] * 100 + ["spam"] * 50


def test_shortcuts_precision_coverage_shape_gives_label_away():
    found = {one.feature: one for one in find_shortcuts(*texts_and_labels())}
    digits = found["four or more digits in a row"]
    assert (digits.label, digits.texts) == ("spam", 41)
    assert (digits.precision, digits.coverage) == (pytest.approx(40 / 41), pytest.approx(40 / 50))
    assert found["the word 'prize'"].coverage == pytest.approx(0.5)
    assert found["the word 'then'"].label == "ham"


@given(
    st.text(st.sampled_from("AZa1٣.: !£/hwHWſ"), max_size=12),
    st.sampled_from(["WWW.", "Https://", "12٣4", "É"]),
)
def test_shortcuts_shapes_are_found_in_any_text(text, added):
    text = f"{text}{added}"
    expected = {name for name, shape in SHAPES.items() if shape.search(text)}
    found = find_shortcuts([text] * 20 + ["-"] * 20, ["a"] * 20 + ["b"] * 20, per_label=100)
    assert {one.feature for one in found} & SHAPES.keys() == expected


def test_shortcuts_stand_strongest_first_when_label_has_several():
    spam = [one.feature for one in find_shortcuts(*texts_and_labels()) if one.label == "spam"]
    assert spam[:2] == ["the word 'call'", "the word 'today'"]
    assert spam.index("four or more digits in a row") < spam.index("the word 'prize'")


def test_no_shortcut_named_when_feature_rare_or_equally_common():
    texts = ["a common word"] * 60 + ["scarce sign"] * 19
    assert find_shortcuts(texts, ["ham", "spam"] * 30 + ["spam"] * 19) == ()


def test_no_shortcut_is_named_when_there_is_only_one_label():
    assert find_shortcuts(["the same words"] * 50, ["ham"] * 50) == ()
