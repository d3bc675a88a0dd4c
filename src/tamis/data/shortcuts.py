"""Shortcuts: single words and shapes that give a label away by themselves.

A model that relies on one fails when the data changes: a new short code, another sender. Knows texts
and labels; does not know files or models.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

SHAPES = {
    "four or more digits in a row": re.compile(r"\d{4}"),
    "a web address": re.compile(r"https?://|\bwww\.", re.IGNORECASE),
    "a currency sign": re.compile(r"[£$€¥₹]"),
    "a word of four or more capitals": re.compile(r"\b[A-Z]{4}"),
    "several exclamation marks": re.compile(r"!\s*!"),
}

_MIN_TEXTS = 20
_MIN_COVERAGE = 0.02
_MIN_CERTAINTY = 0.8


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A word or shape, the label it points to, and how reliable it is.

    texts:     how many texts have it
    precision: share of these that have the label
    coverage:  share of the label's texts that have it
    """

    feature: str
    label: str
    texts: int
    precision: float
    coverage: float


def find_shortcuts(
    texts: Sequence[str], labels: Sequence[str], *, per_label: int = 5
) -> tuple[Shortcut, ...]:
    """Return the strongest shortcuts of each label.

    A feature counts if it is in 20 texts and in 2 % of the label's, and removes at least four fifths
    of the uncertainty that the label's share leaves. Strongest first: coverage times the share of
    uncertainty removed.
    """
    totals = Counter(labels)
    counts = _count_features(texts, labels)
    found: dict[str, list[Shortcut]] = {label: [] for label in sorted(totals)}
    for feature, by_label in counts.items():
        n_texts = by_label.total()
        for label, count in by_label.items() if n_texts >= _MIN_TEXTS else ():
            shortcut = Shortcut(feature, label, n_texts, count / n_texts, count / totals[label])
            certainty = _certainty(shortcut, totals[label] / len(labels))
            if shortcut.coverage >= _MIN_COVERAGE and certainty >= _MIN_CERTAINTY:
                found[label].append(shortcut)

    def strongest_first(shortcut: Shortcut) -> tuple[float, str]:
        certainty = _certainty(shortcut, totals[shortcut.label] / len(labels))
        return -certainty * shortcut.coverage, shortcut.feature

    return tuple(one for ones in found.values() for one in sorted(ones, key=strongest_first)[:per_label])


def _count_features(texts: Sequence[str], labels: Sequence[str]) -> Mapping[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(texts, labels, strict=True):
        for feature in _features(text):
            counts[feature][label] += 1
    return counts


def _certainty(shortcut: Shortcut, prior: float) -> float:
    """Return how much of the uncertainty that the label's share `prior` leaves is gone: 0 none, 1 all."""
    return (shortcut.precision - prior) / (1 - prior) if prior < 1 else 0.0


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return `\w+` with combining marks: many scripts write vowels as marks, which `\w` leaves out."""
    marks = [chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    return re.compile(rf"\w[\w{''.join(marks)}]*")


def _features(text: str) -> Iterator[str]:
    yield from (f"the word {word!r}" for word in set(_word_pattern().findall(text.lower())))
    yield from (name for name, shape in SHAPES.items() if shape.search(text))
