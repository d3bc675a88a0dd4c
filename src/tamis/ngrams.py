"""Hashes of the character n-grams and tokens of many texts at once, in numpy.

Everything that looks at the pieces of a text (near duplicates, the linear model) builds on these
arrays, so training and serving cannot drift apart. Knows arrays; does not know weights or labels.

A hash is a polynomial over code points modulo 2**64, mixed by the finaliser of SplitMix64 so that
any of its bits may be used. It depends on no seed of the process and on no machine.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.intp]

SPACE, LOWER, UPPER, DIGIT, LETTER, SYMBOL = range(6)
"""Classes of a character; LETTER is a letter or mark without case, SYMBOL all that is no part of a word."""

_UTF32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
_BMP_SIZE = 0x10000
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True)
class JoinedTexts:
    """Texts laid end to end as code points, each between two spaces.

    codes:  [characters] code points, as they are
    owners: [characters] index of the text that each character belongs to
    """

    codes: Codes
    owners: Positions
    n_texts: int

    @cached_property
    def classes(self) -> npt.NDArray[np.uint8]:
        """[characters] SPACE, LOWER, UPPER, DIGIT, LETTER or SYMBOL; beyond the BMP all are SYMBOL."""
        return _class_table()[np.minimum(self.codes, _BMP_SIZE - 1)]

    @cached_property
    def lower(self) -> Codes:
        """[characters] code points in lower case, one for one."""
        if self.codes.size and self.codes.max() >= _BMP_SIZE:
            folded = _lower_table()[np.minimum(self.codes, _BMP_SIZE - 1)]
            return np.where(self.codes < _BMP_SIZE, folded, self.codes)
        return _lower_table()[self.codes]


@dataclass(frozen=True)
class Spans:
    """Stretches `[starts, ends)` of an array of characters."""

    starts: Positions
    ends: Positions


def join_texts(texts: Sequence[str]) -> JoinedTexts:
    """Lay `texts` end to end; lone surrogates are kept as code points of their own."""
    codes = np.frombuffer(f" {'  '.join(texts)} ".encode(_UTF32, "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, texts), np.intp, len(texts)) + 2
    if not texts:
        codes = codes[:0]
    return JoinedTexts(codes, np.repeat(np.arange(len(texts)), lengths), len(texts))


def word_spans(joined: JoinedTexts) -> Spans:
    """Return runs of letters, digits and underscores, and every other symbol by itself."""
    visible = joined.classes != SPACE
    in_word = visible & (joined.classes != SYMBOL)
    inside = in_word[1:] & in_word[:-1]  # [i]: characters i and i + 1 are of the same word
    return _spans_between(visible, inside)


def token_spans(visible: npt.NDArray[np.bool_]) -> Spans:
    """Return the runs of True: the tokens that spaces divide."""
    return _spans_between(visible, visible[1:] & visible[:-1])


def ngram_spans(joined: JoinedTexts, n: int) -> Spans:
    """Return every run of `n` characters of one text, words and the spaces between them alike."""
    starts = np.flatnonzero(joined.owners[n - 1 :] == joined.owners[: joined.owners.size - n + 1])
    return Spans(starts, starts + n)


def word_ngram_spans(joined: JoinedTexts, n_min: int, n_max: int) -> Spans:
    """Return the n-grams within words, a space on either side of a word counted as part of it.

    These are scikit-learn's `char_wb` n-grams for n_min ≥ 2.
    """
    spaces = np.flatnonzero(joined.classes == SPACE)
    # Characters from i to the next space after it: an n-gram may hold a space only as first or last.
    room = np.zeros(joined.codes.size, np.intp)
    room[spaces[:-1]] = np.diff(spaces)
    room[spaces[:-1][np.diff(spaces) == 1]] = 0  # two spaces in a row stand between two texts
    gaps = np.diff(spaces) - 1
    inside = np.flatnonzero(joined.classes != SPACE)
    room[inside] = np.repeat(spaces[1:], gaps) - inside
    starts = [np.flatnonzero(room >= n - 1) for n in range(n_min, n_max + 1)]
    sizes = np.repeat(np.arange(n_min, n_max + 1), [s.size for s in starts])
    joined_starts = np.concatenate(starts)
    return Spans(joined_starts, joined_starts + sizes)


def span_hashes(codes: Codes, spans: Spans, *, family: int) -> Hashes:
    """Return [spans] hashes of the characters in each span; `family` keeps kinds of features apart."""
    powers, inverses = _powers(codes.size)
    sums = np.zeros(codes.size + 1, np.uint64)
    np.cumsum(codes * powers, out=sums[1:])
    return mix((sums[spans.ends] - sums[spans.starts]) * inverses[spans.starts], family=family)


def pair_hashes(first: Hashes, second: Hashes, *, family: int) -> Hashes:
    """Return hashes of ordered pairs, such as two words that follow each other."""
    return mix(first * np.uint64(_BASE) + second, family=family)


def mix(hashes: Hashes, *, family: int) -> Hashes:
    """Spread every bit over all 64 (the finaliser of SplitMix64)."""
    mixed = hashes + np.uint64(family * _BASE % 2**64)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _spans_between(visible: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> Spans:
    """Cut visible characters wherever two neighbours are not `inside` the same span."""
    starts, ends = visible.copy(), visible.copy()
    starts[1:] &= ~inside
    ends[:-1] &= ~inside
    return Spans(np.flatnonzero(starts), np.flatnonzero(ends) + 1)


def _powers(size: int) -> tuple[Hashes, Hashes]:
    powers, inverses = _power_tables(max(12, size.bit_length()))
    return powers[:size], inverses[:size]


@cache
def _power_tables(bits: int) -> tuple[Hashes, Hashes]:
    powers = np.full(1 << bits, _BASE, np.uint64)
    inverses = np.full(1 << bits, _BASE_INVERSE, np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers), np.cumprod(inverses)


@cache
def _class_table() -> npt.NDArray[np.uint8]:
    return np.array([_class_of(chr(code)) for code in range(_BMP_SIZE)], np.uint8)


@cache
def _lower_table() -> Codes:
    lowered = (chr(code).lower() for code in range(_BMP_SIZE))
    return np.array([ord(low) if len(low) == 1 else code for code, low in enumerate(lowered)], np.uint32)


def _class_of(character: str) -> int:
    if character.isspace():
        return SPACE
    if character.islower():
        return LOWER
    if character.isupper():
        return UPPER
    if character.isdigit():
        return DIGIT
    if character.isalnum() or character == "_" or unicodedata.category(character).startswith("M"):
        return LETTER
    return SYMBOL
