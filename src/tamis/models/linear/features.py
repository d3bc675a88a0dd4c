"""Texts to counted, hashed features: the same code in training and in serving.

Five families: words, pairs of words, character n-grams within words, word shapes (`Xxxxx`, `dddd`)
with pairs of them, and the size of the text with its share of capitals and digits. Every feature is
a number below 2**bits. Knows no weights and no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.ngrams import Hashes, JoinedTexts, Positions, Spans

_WORD, _WORD_PAIR, _NGRAM, _SHAPE, _SHAPE_PAIR, _LENGTH, _CAPITALS, _DIGITS = range(1, 9)
_LONGEST_RUN = 4
_LONGEST_NGRAM = 12
_FEWEST_BITS, _MOST_BITS = 8, 24  # 2**24 numbers take 64 MB to look up
_SIZE_STEPS = np.array([0, *sorted({round(2 ** (step / 2)) for step in range(64)})])
_SHAPE_OF_CLASS = np.array([ord(c) for c in " xXdu\0"], np.uint32)


@dataclass(frozen=True)
class FeatureSettings:
    """Which features a text is turned into; an artifact stores them beside the weights."""

    ngram_min: int = 2
    ngram_max: int = 5
    word_pairs: bool = True
    shapes: bool = True
    bits: int = 20

    def __post_init__(self) -> None:
        if not 2 <= self.ngram_min <= self.ngram_max <= _LONGEST_NGRAM:
            raise ValueError(
                f"n-grams must be 2 to {_LONGEST_NGRAM} long: {self.ngram_min} to {self.ngram_max}"
            )
        if not _FEWEST_BITS <= self.bits <= _MOST_BITS:
            raise ValueError(f"bits must be {_FEWEST_BITS} to {_MOST_BITS}: {self.bits}")


@dataclass(frozen=True)
class FeatureCounts:
    """The distinct features of many texts, sorted by text and then by feature.

    texts:    [entries] index of the text
    features: [entries] number of the feature, below 2**bits
    counts:   [entries] how often the text has it, at least 1
    """

    texts: Positions
    features: npt.NDArray[np.uint32]
    counts: Positions
    n_texts: int


def count_features(texts: Sequence[str], settings: FeatureSettings) -> FeatureCounts:
    """Return the hashed features of canonical `texts`."""
    joined = ngrams.join_texts(texts)
    parts = [*_words(joined, pairs=settings.word_pairs), _character_ngrams(joined, settings)]
    if settings.shapes:
        parts += [*_shapes(joined), *_sizes(joined)]
    owners = np.concatenate([owner for owner, _ in parts])
    hashes = np.concatenate([hashed for _, hashed in parts])
    keys = (owners.astype(np.uint64) << np.uint64(settings.bits)) | (hashes >> np.uint64(64 - settings.bits))
    keys.sort()
    first = (
        np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if keys.size else np.zeros(0, np.intp)
    )
    distinct = keys[first]
    return FeatureCounts(
        texts=(distinct >> np.uint64(settings.bits)).astype(np.intp),
        features=(distinct & np.uint64((1 << settings.bits) - 1)).astype(np.uint32),
        counts=np.diff(first, append=keys.size),
        n_texts=len(texts),
    )


_Part = tuple[Positions, Hashes]


def _words(joined: JoinedTexts, *, pairs: bool) -> list[_Part]:
    spans = ngrams.word_spans(joined)
    return _with_pairs(joined.lower, joined.owners, spans, (_WORD, _WORD_PAIR), pairs=pairs)


def _character_ngrams(joined: JoinedTexts, settings: FeatureSettings) -> _Part:
    spans = ngrams.word_ngram_spans(joined, settings.ngram_min, settings.ngram_max)
    return joined.owners[spans.starts], ngrams.span_hashes(joined.lower, spans, family=_NGRAM)


def _shapes(joined: JoinedTexts) -> list[_Part]:
    """Shapes of blank-separated tokens: X, x, d, u for classes, symbols as they are, runs cut at four."""
    symbols = np.where(joined.classes == ngrams.SYMBOL, joined.codes, _SHAPE_OF_CLASS[joined.classes])
    changes = np.concatenate([[True], symbols[1:] != symbols[:-1]])[: symbols.size]
    places = np.arange(symbols.size)
    kept = places - np.maximum.accumulate(np.where(changes, places, 0)) < _LONGEST_RUN
    shapes, owners = symbols[kept], joined.owners[kept]
    spans = ngrams.token_spans(shapes != ord(" "))
    return _with_pairs(shapes, owners, spans, (_SHAPE, _SHAPE_PAIR), pairs=True)


def _with_pairs(
    codes: npt.NDArray[np.uint32], owners: Positions, spans: Spans, families: tuple[int, int], *, pairs: bool
) -> list[_Part]:
    owner = owners[spans.starts]
    single = ngrams.span_hashes(codes, spans, family=families[0])
    if not pairs:
        return [(owner, single)]
    neighbours = owner[1:] == owner[:-1]
    paired = ngrams.pair_hashes(single[:-1], single[1:], family=families[1])
    return [(owner, single), (owner[1:][neighbours], paired[neighbours])]


def _sizes(joined: JoinedTexts) -> list[_Part]:
    """Length, capitals and digits of each text, in steps of half a power of two."""
    every = np.arange(joined.n_texts)
    masks = {
        _LENGTH: joined.classes >= 0,
        _CAPITALS: joined.classes == ngrams.UPPER,
        _DIGITS: joined.classes == ngrams.DIGIT,
    }
    parts = []
    for family, mask in masks.items():
        sizes = np.bincount(joined.owners[mask], minlength=joined.n_texts)
        steps = np.searchsorted(_SIZE_STEPS, sizes, side="right").astype(np.uint64)
        parts.append((every, ngrams.mix(steps, family=family)))
    return parts
