"""Texts to counted, hashed features: the same code in training and in serving.

Five families: words, pairs of words, character n-grams within words, word shapes (`Xxxxx`, `dddd`)
with pairs of them, and the size of the text with its share of capitals and digits. Every feature is
a number below 2**bits. Knows no weights and no labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_OFFSETS = [ngrams.family_offset(family) for family in range(9)]
_SIZE_OFFSETS = np.array([_OFFSETS[family] for family in (_LENGTH, _CAPITALS, _DIGITS)])
_KEPT_AT_FIRST = np.ones(_LONGEST_RUN, np.bool_)
_FIRST = np.ones(1, np.bool_)


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
    parts = [*_words(joined, settings)]
    if settings.shapes:
        parts += [*_shapes(joined), _sizes(joined)]
    owners = np.concatenate([owner for owner, _ in parts])
    hashes = ngrams.mix(np.concatenate([hashed for _, hashed in parts]))
    keys = owners.astype(np.uint64) << np.uint64(settings.bits)
    keys |= hashes >> np.uint64(64 - settings.bits)
    keys.sort()
    first = np.flatnonzero(np.concatenate([_FIRST[: keys.size], keys[1:] != keys[:-1]]))
    distinct = keys[first]
    return FeatureCounts(
        texts=(distinct >> np.uint64(settings.bits)).astype(np.intp),
        features=(distinct & np.uint64((1 << settings.bits) - 1)).astype(np.uint32),
        counts=np.diff(first, append=keys.size),
        n_texts=len(texts),
    )


_Part = tuple[Positions, Hashes]
"""[features] the text that each belongs to, and its polynomial, not yet mixed."""


def _words(joined: JoinedTexts, settings: FeatureSettings) -> Iterator[_Part]:
    """Words, pairs of words, and the n-grams within words, in lower case."""
    words = ngrams.word_spans(joined)
    inside = ngrams.word_ngram_spans(joined, settings.ngram_min, settings.ngram_max)
    both = Spans(np.concatenate([words.starts, inside.starts]), np.concatenate([words.ends, inside.ends]))
    polynomials = ngrams.polynomials(joined.lower, both)
    owners, n_words = joined.owners[both.starts], words.starts.size
    if settings.word_pairs:
        yield _pairs(owners[:n_words], polynomials[:n_words], _WORD_PAIR)
    polynomials[:n_words] += _OFFSETS[_WORD]
    polynomials[n_words:] += _OFFSETS[_NGRAM]
    yield owners, polynomials


def _shapes(joined: JoinedTexts) -> Iterator[_Part]:
    """Shapes of blank-separated tokens: X, x, d, u for classes, symbols as they are, runs cut at four."""
    shapes, owners = _SHAPE_OF_CLASS[joined.classes], joined.owners
    shapes = np.where(shapes, shapes, joined.codes)
    same = shapes[1:] == shapes[:-1]
    beyond = same[3:] & same[2:-1] & same[1:-2] & same[:-3]  # like the four characters before it
    if beyond.any():
        kept = np.concatenate([_KEPT_AT_FIRST, ~beyond])
        shapes, owners = shapes[kept], owners[kept]
    spans = ngrams.token_spans(shapes)
    owners, polynomials = owners[spans.starts], ngrams.polynomials(shapes, spans)
    yield _pairs(owners, polynomials, _SHAPE_PAIR)
    yield owners, polynomials + _OFFSETS[_SHAPE]


def _pairs(owners: Positions, polynomials: Hashes, family: int) -> _Part:
    neighbours = np.flatnonzero(owners[1:] == owners[:-1])
    paired = ngrams.pairs(polynomials[neighbours], polynomials[neighbours + 1])
    return owners[neighbours], paired + _OFFSETS[family]


def _sizes(joined: JoinedTexts) -> _Part:
    """Length, capitals and digits of each text, in steps of half a power of two."""
    cells = joined.owners * ngrams.N_CLASSES + joined.classes
    counted = np.bincount(cells, minlength=joined.n_texts * ngrams.N_CLASSES)
    by_class = counted.reshape(joined.n_texts, ngrams.N_CLASSES)
    sizes = np.stack([by_class.sum(axis=1), by_class[:, ngrams.UPPER], by_class[:, ngrams.DIGIT]], axis=1)
    steps = np.searchsorted(_SIZE_STEPS, sizes.ravel(), side="right").astype(np.uint64)
    owners = np.repeat(np.arange(joined.n_texts), len(_SIZE_OFFSETS))
    return owners, steps + np.tile(_SIZE_OFFSETS, joined.n_texts)
