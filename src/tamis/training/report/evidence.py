"""The evidence for each label, as words: n-gram features are counted for the word that they come from.

A linear model spreads the weight of a word over the word itself and its character n-grams, so a list of
features is mostly shreds. Each n-gram is attributed to the most frequent training word that contains it.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from tamis.training.trainers.base import TopFeature

Row = tuple[str, str, float]
"""Name, kind and weight."""

_MAX_LABELS = 12  # with tables of their own
_MAX_ROWS = 15
_MAX_WORDS_IN_LINE = 8
_MAX_WORDS = 50_000  # each n-gram is searched in all of them
_MAX_MEDIAN_CHARACTERS = 16  # beyond it "words" are lines of a script without blanks
_NGRAMS, _WORDS = "n-grams", "words"


@dataclass(frozen=True)
class LabelEvidence:
    """One label's evidence, by descending weight.

    top:      words and other features to show
    features: all features with n-grams as they are; empty if `top` shows them already
    heaviest: the largest weight of any label, so that bars of all labels have one scale
    """

    label: str
    top: tuple[Row, ...]
    features: tuple[Row, ...]
    heaviest: float


def find_evidence(
    top_features: Mapping[str, Sequence[TopFeature]], texts: Sequence[str], rows: Mapping[str, int]
) -> tuple[tuple[LabelEvidence, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the evidence for the labels with most `rows`, and the top words alone for all others."""
    if not any(top_features.values()):
        return (), ()
    # built once for all labels: their n-grams are searched in the same words
    vocabulary = _Vocabulary(texts)
    ranked = {label: vocabulary.as_words(found) for label, found in top_features.items()}
    # tables for hundreds of labels would be most of the report: the others get a line each
    largest = sorted(ranked, key=lambda label: -rows.get(label, 0))[:_MAX_LABELS]
    heaviest = max(row[2] for label in largest for row in ranked[label]) if any(ranked.values()) else 1.0
    shown = tuple(
        LabelEvidence(
            label,
            tuple(ranked[label][:_MAX_ROWS]),
            tuple(map(_row, top_features[label])) if vocabulary.has_words else (),
            heaviest,
        )
        for label in ranked
        if label in largest
    )
    others = {label: ranked[label][:_MAX_WORDS_IN_LINE] for label in ranked if label not in largest}
    return shown, tuple((label, tuple(name for name, _, _ in found)) for label, found in others.items())


class _Vocabulary:
    """The words of some texts, searched by n-gram: the most frequent word comes first."""

    def __init__(self, texts: Sequence[str]):
        counts = Counter(chain.from_iterable(text.lower().split() for text in texts))
        words = [word for word, _ in counts.most_common(_MAX_WORDS)]
        # at most three times a word: a few frequent ones must not decide the median
        lengths = [len(word) for word in words for _ in range(min(counts[word], 3))]
        self.has_words = bool(words) and statistics.median(lengths) <= _MAX_MEDIAN_CHARACTERS
        # one string, in which `find` is fast; blanks stand for the edges of a word, as in n-grams
        self._joined = "".join(f"\n {word} " for word in words) + "\n"

    def as_words(self, features: Sequence[TopFeature]) -> list[Row]:
        """Return words with the summed weight of their features, and the other features as they are."""
        if not self.has_words:
            return [_row(one) for one in features]
        weights: dict[str, float] = defaultdict(float)
        others = []
        for one in features:
            word = self._word_of(one)
            if word is None:
                others.append(_row(one))
            else:
                weights[word] += one.weight
        found = [(word, "word", weight) for word, weight in weights.items()]
        return sorted([*found, *others], key=lambda row: -row[2])

    def _word_of(self, feature: TopFeature) -> str | None:
        if feature.family == _WORDS:
            return feature.name
        if feature.family != _NGRAMS or (at := self._joined.find(feature.name)) < 0:
            return None
        start = self._joined.rfind("\n", 0, at + 1) + 2  # after the line break and the blank
        return self._joined[start : self._joined.index("\n", start)].rstrip(" ")


def _row(feature: TopFeature) -> Row:
    name = feature.name.replace(" ", "␣") if feature.family == _NGRAMS else feature.name
    return name, feature.family, feature.weight
