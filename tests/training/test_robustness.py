"""Disguises change what they say, the same way twice, and their cost is counted on the right texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tamis.artifact import OperatingPoint
from tamis.normalization import canonical
from tamis.training.robustness import (
    PERTURBATIONS,
    insert_zero_width,
    robustness,
    space_out,
    swap_homoglyphs,
    write_leet,
)

TEXT = "win a free phone at the station today, see you there soon my friend"
POINT = OperatingPoint("spam", 0.5, 0.01, 0.9, 0.01, "here")


def generator() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_disguise_changes_the_text_the_same_way_twice(name: str):
    change = PERTURBATIONS[name]
    assert change(TEXT, generator()) == change(TEXT, generator()) != TEXT
    assert change("", generator()) == ""


def test_zero_width_characters_are_gone_in_canonical_form():
    assert canonical(insert_zero_width(TEXT, generator())) == TEXT


def test_homoglyphs_are_other_letters_in_the_same_places():
    swapped = swap_homoglyphs(TEXT, generator())
    changed = [c for c, old in zip(swapped, TEXT, strict=True) if c != old]
    assert len(changed) > 5
    assert all("\u0400" <= c <= "\u04ff" for c in changed)


def test_spaced_out_words_keep_their_letters():
    assert space_out(TEXT, generator()).replace(" ", "") == TEXT.replace(" ", "")


def test_leet_puts_digits_for_letters():
    assert sum(c.isdigit() for c in write_leet(TEXT, generator())) > 5


def lower_case_win(texts: Sequence[str]) -> np.ndarray:
    """Score a text as spam for the very word win."""
    spam = np.array([0.9 if "win" in text.split() else 0.1 for text in texts])
    return np.stack([1 - spam, spam], axis=1)


def test_the_drop_is_the_recall_of_positive_label_that_is_lost():
    texts, labels = ["win this"] * 40 + ["lose"] * 10 + ["win that"] * 20, ["spam"] * 50 + ["ham"] * 20
    found = {
        one.name: one
        for one in robustness(lower_case_win, texts, labels, ["ham", "spam"], operating_point=POINT)
    }
    assert list(found) == list(PERTURBATIONS)
    shouted = found["upper case"]
    assert (shouted.texts, shouted.plain.value, shouted.disguised.value) == (50, 0.8, 0.0)
    assert shouted.drop == 0.8


def test_every_text_counts_when_there_is_no_operating_point():
    texts, labels = ["win"] * 30 + ["lose"] * 30, ["spam"] * 30 + ["ham"] * 30
    shouted = robustness(lower_case_win, texts, labels, ["ham", "spam"], operating_point=None)[-1]
    assert (shouted.texts, shouted.plain.value, shouted.disguised.value) == (60, 1.0, 0.5)


def test_of_very_many_texts_some_are_drawn():
    texts = ["win"] * 5000
    found = robustness(lower_case_win, texts, ["spam"] * 5000, ["ham", "spam"], operating_point=POINT)
    assert found[0].texts == 2000


def test_nothing_is_measured_when_no_text_is_positive():
    assert robustness(lower_case_win, ["win"], ["ham"], ["ham", "spam"], operating_point=POINT) == ()
