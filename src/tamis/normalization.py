"""The one canonical form of a text, used in training and in serving alike.

Handles characters; independent of words, features and models.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby

from tamis.markup import strip_html

CANONICAL_FORM = "nfkc-1"
"""Names the rules below; an artifact records it, so that a changed rule cannot meet an old model."""

_INVISIBLE = re.compile(
    "[\u00ad"  # soft hyphen
    "\u034f"  # combining grapheme joiner
    "\u061c"  # Arabic letter mark
    "\u180e"  # Mongolian vowel separator
    "\u200b-\u200f"  # zero-width space, joiners and direction marks
    "\u202a-\u202e"  # direction embeddings
    "\u2060-\u206f"  # word joiner, invisible operators, direction isolates
    "\ufeff]"  # byte-order mark
)

_HANGUL_VOWELS_AND_FINALS = re.compile("[\u1160-\u11ff]")  # composed by rule, not by table
_BMP_SIZE = 0x1_0000
# frequent in messages, and unchanged by NFKC
_EMOJI = range(0x1_F300, 0x1_FB00)
_STABLE_RANGES = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xAC00, 0xD7A4), range(0xE000, 0xF900))
"""Ideographs, Hangul syllables and the private area, which need not be looked at one by one."""

# canonical() of a long text costs more than this test may
_BEGINNING = 64
_MAX_MARKS = 16
"""Combining marks in a row up to which `unicodedata` may sort them itself, in quadratic time."""

# Every combining mark matches; most other matches are punctuation, which only costs the slower path.
# U+FF9E and U+FF9F are letters that decompose to marks. A test checks both on the whole of Unicode.
_POSSIBLE_MARKS = re.compile(rf"[\W\uff9e\uff9f]{{{_MAX_MARKS},}}")


def canonical(text: str) -> str:
    """Return `text` in Unicode form NFKC, without invisible characters, its runs of blanks as one space.

    Two texts with the same canonical form get the same answer. Capitals are kept: they are informative.
    """
    # ASCII is in NFKC and has no invisible character
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
        if not unicodedata.is_normalized("NFKC", text):  # linear: marks out of order are found at once
            text = unicodedata.normalize("NFKC", order_marks(text))
    return " ".join(text.split())


CHANGING, STABLE, BLANK = range(3)


@cache
def character_kinds() -> bytes:
    """Return the class of each character by code point, for texts of STABLE and BLANK characters only.

    `canonical` keeps STABLE characters, whatever is beside them, and turns a run of BLANK ones into a space.
    All others, and those beyond the end, are CHANGING: only `canonical` itself gives the result.
    """
    # 0 is CHANGING
    kinds = bytearray(_EMOJI.stop)
    for known in _STABLE_RANGES:
        kinds[known.start : known.stop] = bytes([STABLE]) * len(known)
    rest = [*(code for code in range(_BMP_SIZE) if not kinds[code]), *_EMOJI]
    pairs = (unicodedata.decomposition(chr(code)).split(" ") for code in rest)
    seconds = {pair[1] for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    for code in rest:
        character = chr(code)
        if character.isspace():
            kinds[code] = BLANK
        elif not (
            unicodedata.combining(character)
            or f"{code:04X}" in seconds  # may be composed with the character before it
            or _HANGUL_VOWELS_AND_FINALS.match(character)
            or _INVISIBLE.match(character)
            or not unicodedata.is_normalized("NFKC", character)
        ):
            kinds[code] = STABLE
    return bytes(kinds)


def is_blank(text: str) -> bool:
    """Return whether the canonical form of the text is empty."""
    return not (canonical(text[:_BEGINNING]) or canonical(text))  # mostly the beginning shows it


def decompose(text: str) -> str:
    """Return `text` in Unicode form NFKD, in time proportional to its length."""
    return unicodedata.normalize("NFKD", order_marks(text))


def order_marks(text: str) -> str:
    """Return `text`, compatibility-equivalent, without long runs of unordered combining marks.

    `unicodedata.normalize` moves each mark past those before it, one by one, so a run of n marks costs
    n² steps; a run that is in canonical order already costs n. Texts without a long run are returned
    as they are.
    """
    if _POSSIBLE_MARKS.search(text) is None:
        return text
    # Each character alone: a whole text would be sorted on the way.
    decomposed = text.translate({ord(c): unicodedata.normalize("NFKD", c) for c in set(text)})
    return _POSSIBLE_MARKS.sub(lambda found: _in_canonical_order(found.group()), decomposed)


def _in_canonical_order(characters: str) -> str:
    """Sort each run of combining marks by combining class; equal classes keep their order (UAX #15, D4)."""
    runs = groupby(characters, lambda character: unicodedata.combining(character) != 0)
    return "".join("".join(sorted(run, key=unicodedata.combining) if marks else run) for marks, run in runs)


HTML_FORM = "html-1+nfkc-1"
"""Names the same rules after `tamis.markup.strip_html`, for models that were trained with `--strip-html`."""


def canonical_without_html(text: str) -> str:
    """Return the canonical form of the text without its HTML."""
    return canonical(strip_html(text))


AS_IT_IS = "as-it-is"
"""Names the form of models that were trained elsewhere, on unchanged texts."""

TEXT_FORMS: Mapping[str, Callable[[str], str]] = {
    CANONICAL_FORM: canonical,
    HTML_FORM: canonical_without_html,
    AS_IT_IS: str,
}
"""What brings a text into the form that a model expects, by the name in its artifact."""
