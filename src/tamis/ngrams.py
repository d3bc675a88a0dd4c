"""Hashes of the character n-grams and tokens of many texts at once, in numpy.

Everything that looks at the pieces of a text (near duplicates, the linear model) builds on these
arrays, so training and serving cannot drift apart. Handles arrays; independent of weights and labels.

    join_texts(["ab", "c"])   codes   ␠ a b ␠ ␠ c ␠
                              owners  0 0 0 0 1 1 1

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

SPACE, LOWER, UPPER, DIGIT, LETTER, SYMBOL, IDEOGRAPH = range(7)
N_CLASSES = 7
"""Classes of a character; LETTER is a letter or mark without case, SYMBOL all that is no part of a word.

IDEOGRAPH is a letter of a script that writes no spaces between words: an ideograph or a kana.
"""

# iteration marks, kana, extension A, unified and compatibility ideographs
_IDEOGRAPHS = (
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
)

_UTF32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
# tables end here: the planes above hold emoji and rare scripts, and would take 17 times the memory
_BMP_SIZE = 0x10000
# odd, so that it has an inverse modulo 2**64
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)
_PAIR = np.uint64(0xD6E8FEB86659FD93)
_FAMILY = 0xA0761D6478BD642F  # no small multiple of _BASE: that would change a character, not the family


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
        """[characters] class of each; beyond the BMP all are SYMBOL."""
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


def character_tables() -> tuple[npt.NDArray[np.uint8], Codes]:
    """Return the class and the lower case of every character of the BMP, by code point.

    Beyond it all are SYMBOL and stay as they are.
    """
    return _class_table(), _lower_table()


def code_points(text: str) -> bytes:
    """Return the code points of `text`, four bytes each; lone surrogates are kept."""
    return text.encode(_UTF32, "surrogatepass")


def encode_texts(texts: Sequence[str]) -> bytes:
    """Return the code points of `texts` laid end to end, each text between spaces; four bytes each.

    Lone surrogates are kept as code points of their own.
    """
    return code_points(f" {'  '.join(texts)} ")


def join_texts(texts: Sequence[str]) -> JoinedTexts:
    """Lay `texts` end to end."""
    # one buffer for all texts: the arrays of many short texts would cost more than their contents
    codes = np.frombuffer(encode_texts(texts), np.uint32)
    lengths = np.fromiter(map(len, texts), np.intp, len(texts)) + 2
    if not texts:
        codes = codes[:0]
    return JoinedTexts(codes, np.arange(len(texts)).repeat(lengths), len(texts))


def word_spans(joined: JoinedTexts, *, split_ideographs: bool = False) -> Spans:
    """Return runs of letters, digits and underscores, and every other symbol by itself.

    With `split_ideographs` every ideograph and kana is a word of its own.
    """
    visible = joined.classes != SPACE
    in_word = visible & (joined.classes != SYMBOL)
    if split_ideographs:
        in_word &= joined.classes != IDEOGRAPH
    return _cut(visible, in_word[1:] & in_word[:-1])


def token_spans(codes: Codes) -> Spans:
    """Return what the spaces in `codes` divide; the first and the last character are spaces."""
    # canonical texts have no other blank
    visible = codes != ord(" ")
    return _cut(visible, visible[1:] & visible[:-1])


def ngram_spans(joined: JoinedTexts, n: int) -> Spans:
    """Return every run of `n` characters of one text, words and the spaces between them alike."""
    # an n-gram belongs to one text: its first and last character have one owner
    n_starts = max(0, joined.owners.size - n + 1)
    starts = np.flatnonzero(joined.owners[n - 1 :] == joined.owners[:n_starts])
    return Spans(starts, starts + n)


def word_ngram_spans(joined: JoinedTexts, n_min: int, n_max: int) -> Spans:
    """Return the n-grams within words, a space on either side of a word counted as part of it.

    These are scikit-learn's `char_wb` n-grams for n_min ≥ 2.
    """
    spaces = (joined.classes == SPACE).nonzero()[0]
    gaps = spaces[1:] - spaces[:-1]
    # Steps from each character to the next space: an n-gram may hold spaces only as first and last.
    # Two spaces in a row separate two texts; no n-gram starts there.
    steps = (spaces[1:] - (gaps == 1)).repeat(gaps) - np.arange(max(joined.codes.size - 1, 0))
    lengths = np.arange(n_min, n_max + 1)
    which, starts = (steps >= lengths[:, None] - 1).nonzero()
    return Spans(starts, starts + lengths[which])


def span_hashes(codes: Codes, spans: Spans, *, family: int) -> Hashes:
    """Return [spans] hashes of the characters in each span; `family` keeps kinds of features apart."""
    return mix(polynomials(codes, spans) + family_offset(family))


def polynomials(codes: Codes, spans: Spans) -> Hashes:
    """Return [spans] the polynomial of the characters in each span, which `mix` has yet to spread."""
    # prefix sums: the hash of any span is one difference, brought to its start by an inverse power
    # rounded up to a power of two, so that few tables are cached; 4,096 serves most messages
    tables = _power_tables(max(12, codes.size.bit_length()))
    powers, inverses = (table[: codes.size] for table in tables)
    sums = np.zeros(codes.size + 1, np.uint64)
    np.cumsum(codes * powers, out=sums[1:])
    return (sums[spans.ends] - sums[spans.starts]) * inverses[spans.starts]


def pairs(first: Hashes, second: Hashes) -> Hashes:
    """Return polynomials of ordered pairs, such as two words that follow each other."""
    return first * _PAIR + second


def family_offset(family: int) -> np.uint64:
    """Return what to add to a polynomial before `mix`, so that equal texts of two families differ."""
    return np.uint64(family * _FAMILY % 2**64)


def mix(polynomials: Hashes) -> Hashes:
    """Spread every bit over all 64 (the finaliser of SplitMix64)."""
    mixed = polynomials ^ (polynomials >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _cut(visible: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> Spans:
    """Return runs of visible characters, cut where characters i and i + 1 are not `inside` one span.

    The first and the last character are spaces, so every span begins behind and ends before one.
    """
    # a > b of booleans: a and not b
    starts = (visible[1:] > inside).nonzero()[0]
    return Spans(starts + 1, (visible[:-1] > inside).nonzero()[0] + 1)


@cache
def _power_tables(bits: int) -> tuple[Hashes, Hashes]:
    powers = np.full(1 << bits, _BASE, np.uint64)
    inverses = np.full(1 << bits, _BASE_INVERSE, np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers), np.cumprod(inverses)


@cache
def _class_table() -> npt.NDArray[np.uint8]:
    characters = _bmp()

    classes = np.full(_BMP_SIZE, SYMBOL, np.uint8)
    classes[np.strings.isalnum(characters)] = LETTER
    # only marks need unicodedata, which is slow for a whole plane
    others = np.flatnonzero(classes == SYMBOL).tolist()
    classes[[code for code in others if unicodedata.category(chr(code))[0] == "M"]] = LETTER
    classes[ord("_")] = LETTER
    for first, last in _IDEOGRAPHS:
        block = classes[first : last + 1]
        block[block == LETTER] = IDEOGRAPH
    classes[np.strings.isdigit(characters)] = DIGIT  # each rule takes precedence over those before it
    classes[np.strings.isupper(characters)] = UPPER
    classes[np.strings.islower(characters)] = LOWER
    classes[np.strings.isspace(characters)] = SPACE
    return classes


@cache
def _lower_table() -> Codes:
    codes = np.arange(_BMP_SIZE, dtype=np.uint32)
    # all others are their own lower case: a call for each character of the plane would be slow
    differing = np.flatnonzero(np.strings.isupper(_bmp()) | np.strings.istitle(_bmp())).tolist()
    lowered = {code: chr(code).lower() for code in differing}
    for code, lower in lowered.items():
        if len(lower) == 1:  # others stay as they are
            codes[code] = ord(lower)
    return codes


def _bmp() -> npt.NDArray[np.str_]:
    """Return the characters of the basic multilingual plane by code point."""
    return np.arange(_BMP_SIZE, dtype=np.uint32).view("U1")
