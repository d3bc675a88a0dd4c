"""The canonical form: equal to Unicode's own for every text, and in time proportional to its length."""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tamis.normalization import (
    BLANK,
    CHANGING,
    STABLE,
    canonical,
    character_kinds,
    decompose,
    is_blank,
    order_marks,
)

_CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1)]
_MARKS = [c for c in _CHARACTERS if unicodedata.combining(c)]
_OF_MARKS_ALONE = [
    c for c in _CHARACTERS if all(map(unicodedata.combining, unicodedata.normalize("NFKD", c)))
]
_STARTERS = "a\u1e69\u1100\uac01é \N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}!\U0001f600ﬁ\ud800"

marks = st.text(st.sampled_from(_OF_MARKS_ALONE), max_size=60)
texts_of_marks = st.lists(st.tuples(st.sampled_from(_STARTERS), marks)).map(
    lambda pairs: "".join(starter + run for starter, run in pairs)
)


def steps_of_insertion_sort(text: str) -> int:
    """Count the moves by which `unicodedata` brings the marks of a text into canonical order."""
    steps = 0
    decomposed = "".join(unicodedata.normalize("NFKD", character) for character in text)
    seen = [0] * 256
    for kind in map(unicodedata.combining, decomposed):
        if kind == 0:
            seen = [0] * 256
        else:
            steps += sum(seen[kind + 1 :])
            seen[kind] += 1
    return steps


@given(st.one_of(texts_of_marks, st.text()))
def test_canonical_any_text_is_unicode_nfkc(text: str):
    invisible = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
    expected = unicodedata.normalize("NFKC", invisible.sub("", text))
    assert canonical(text) == " ".join(expected.split())


@given(st.text(st.sampled_from(" \n\u200b\u00ad\u3000a"), max_size=4), st.integers(0, 100))
def test_is_blank_any_text_is_an_empty_canonical_form(text: str, blanks: int):
    assert is_blank("\u200b" * blanks + text) == (not canonical(text))


@given(st.one_of(texts_of_marks, st.text()))
def test_decompose_any_text_is_unicode_nfkd(text: str):
    assert decompose(text) == unicodedata.normalize("NFKD", text)


@given(st.lists(st.sampled_from(_OF_MARKS_ALONE), min_size=1), st.integers(16, 3000))
def test_order_marks_long_runs_leave_linear_work(some: list[str], length: int):
    hostile = "a" + "".join(some * length)[:length]
    assert steps_of_insertion_sort(order_marks(hostile)) <= 36 * len(hostile)


def test_order_marks_descending_classes_leaves_no_work():
    worst = "a" + "".join(sorted(_MARKS * 10, key=unicodedata.combining, reverse=True))
    assert steps_of_insertion_sort(worst) > 1_000_000
    assert steps_of_insertion_sort(order_marks(worst)) == 0


@given(st.text(max_size=15))
def test_order_marks_ordinary_text_is_returned_as_it_is(text: str):
    assert order_marks(text) is text


def test_runs_of_every_mark_are_in_canonical_order():
    for mark in _OF_MARKS_ALONE:
        classes = [*map(unicodedata.combining, order_marks("a" + (mark + "\u0300\u0316") * 8))]
        assert all(first <= second for first, second in pairwise(classes))


def test_stable_characters_stay_beside_any_other():
    stable = [
        chr(code)
        for code, kind in enumerate(character_kinds())
        if kind == STABLE and not 0xD800 <= code < 0xE000
    ]
    rng = random.Random(5)
    for _ in range(10):
        rng.shuffle(stable)
        text = "".join(stable)
        assert canonical(text) == text


def test_blank_characters_are_all_that_split_divides_at():
    kinds = character_kinds()
    blank = {chr(code) for code, kind in enumerate(kinds) if kind == BLANK}
    assert blank == {chr(code) for code in range(sys.maxunicode) if chr(code).isspace()}
    assert canonical("".join(sorted(blank)).join("ab")) == "a b"


def test_kinds_cover_the_letters_of_living_scripts():
    kinds = character_kinds()
    assert [kinds[ord(one)] for one in "éßж東한🙂’“ﬁ\u0301\u200b…"] == [STABLE] * 8 + [CHANGING] * 4
