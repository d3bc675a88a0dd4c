"""Ways in which senders disguise a text while people can still read it.

Each takes a text and a generator of random numbers, and changes a part of it. Knows characters;
does not know models or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Perturbation = Callable[[str, np.random.Generator], str]

_SHARE = 0.3  # of the characters or words that a disguise could change
_ZERO_WIDTH = "\u200b"
_HOMOGLYPHS = str.maketrans("acehiopsxyABCEHIKMOPSTXY", "асеһіорѕхуАВСЕНІКМОРЅТХУ")
"""Latin letters and the Cyrillic ones that look the same."""
_LEET = str.maketrans("aeiostAEIOST", "431057431057")


def insert_zero_width(text: str, random: np.random.Generator) -> str:
    """Put zero-width spaces behind some of the letters."""
    return _each_character(text, random, lambda c: c + _ZERO_WIDTH if c.isalnum() else c)


def swap_homoglyphs(text: str, random: np.random.Generator) -> str:
    """Replace some Latin letters by Cyrillic ones of the same look."""
    return _each_character(text, random, lambda c: c.translate(_HOMOGLYPHS))


def space_out(text: str, random: np.random.Generator) -> str:
    """W r i t e some words with a blank between letters."""
    return _each_word(text, random, " ".join)


def write_leet(text: str, random: np.random.Generator) -> str:
    """Wr1t3 d1g1t5 for some letters."""
    return _each_character(text, random, lambda c: c.translate(_LEET))


def shout(text: str, random: np.random.Generator) -> str:
    """WRITE EVERYTHING IN CAPITALS."""
    return text.upper()


PERTURBATIONS: Mapping[str, Perturbation] = {
    "zero-width characters": insert_zero_width,
    "homoglyphs": swap_homoglyphs,
    "spaced-out words": space_out,
    "leet": write_leet,
    "upper case": shout,
}


def _each_character(text: str, random: np.random.Generator, change: Callable[[str], str]) -> str:
    characters = list(text)
    for index in (random.random(len(text)) < _SHARE).nonzero()[0].tolist():
        characters[index] = change(characters[index])
    return "".join(characters)


def _each_word(text: str, random: np.random.Generator, change: Callable[[str], str]) -> str:
    words = text.split(" ")
    chosen = random.random(len(words)) < _SHARE
    return " ".join(change(word) if yes else word for word, yes in zip(words, chosen, strict=True))
