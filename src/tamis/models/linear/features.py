"""Texts to counted, hashed features: the same code in training and in serving.

    texts ──► joined characters ──► spans of each family ──► polynomials ──► numbers ──► counts

    family                                               block       setting
    words, word pairs                                    words       word_pairs
    n-grams of 2 to 5 characters within words            n-grams     ngram_min, ngram_max
    shapes (`Xxxx`, `dddd`), shape pairs, text sizes     shapes      shapes
    word triples, n-grams of 6 characters across words   as above    phrases

A number is the block, in its upper bits, and the upper `bits` of the hash. Independent of weights and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.ngrams import Codes, Hashes, JoinedTexts, Positions, Spans

# the numbers go into the hashes of saved models: new families are added at the end
_WORD, _WORD_PAIR, _NGRAM, _SHAPE, _SHAPE_PAIR, LENGTH, CAPITALS, DIGITS = range(1, 9)
_WORD_TRIPLE, _NGRAM_ACROSS = 9, 10
FAMILIES = {
    _WORD: "words",
    _WORD_PAIR: "word pairs",
    _NGRAM: "n-grams",
    _SHAPE: "shapes",
    _SHAPE_PAIR: "shape pairs",
    LENGTH: "length, capitals, digits",
    _WORD_TRIPLE: "word triples",
    _NGRAM_ACROSS: "n-grams across words",
}
"""Names of the families in `Located`; the three sizes of a text share one."""

BLOCKS = ("words", "n-grams", "shapes")
"""Blocks of format 2: the vector of each is scaled to length 1 by itself."""
_WORDS, _NGRAMS, SHAPES_BLOCK = range(len(BLOCKS))

SHAPE_FAMILIES = frozenset({_SHAPE, _SHAPE_PAIR})
# longer runs of one class of characters are cut to this: `xxxx` is any word of lower-case letters
_MAX_RUN = 4
_MAX_NGRAM, _ACROSS_CHARACTERS = 12, 6
# the table from numbers to rows has four bytes for each: 2**24 take 64 MB
_MIN_BITS, _MAX_BITS = 8, 24
# half powers of two: a length matters by its order of magnitude, and each step occurs in many texts
SIZE_STEPS = np.array([0, *sorted({round(2 ** (step / 2)) for step in range(64)})])
_SHAPE_OF_CLASS = np.array([ord(c) for c in " xXdu\0u"], np.uint32)
# a family's hashes start from its own offset, so a word and an equal n-gram are two features
OFFSETS = [ngrams.family_offset(family) for family in range(11)]
_SIZE_OFFSETS = np.array([OFFSETS[family] for family in (LENGTH, CAPITALS, DIGITS)])
_NUMBER_BITS = np.uint64(32)
# the first four characters have no four before them, so they are in no run that is cut
KEPT_AT_FIRST = np.ones(_MAX_RUN, np.bool_)


@dataclass(frozen=True)
class FeatureSettings:
    """Which features a text is turned into; an artifact without one of these settings means its default."""

    ngram_min: int = 2
    ngram_max: int = 5
    word_pairs: bool = True
    shapes: bool = True
    # the last three are the values of Tamis 0.1, for artifacts that do not name them
    bits: int = 20
    phrases: bool = False
    format: int = 1

    @property
    def n_blocks(self) -> int:
        """How many blocks the features fall into."""
        return len(BLOCKS) if self.format > 1 else 1

    @property
    def n_numbers(self) -> int:
        """The bound below which all numbers of features are."""
        return self.n_blocks << self.bits

    def __post_init__(self) -> None:
        if not 2 <= self.ngram_min <= self.ngram_max <= _MAX_NGRAM:
            raise ValueError(f"n-grams must be 2 to {_MAX_NGRAM} long: {self.ngram_min} to {self.ngram_max}")
        if not _MIN_BITS <= self.bits <= _MAX_BITS:
            raise ValueError(f"bits must be {_MIN_BITS} to {_MAX_BITS}: {self.bits}")
        if self.format not in (1, 2):
            raise ValueError(f"format must be 1 or 2: {self.format}")


@dataclass(frozen=True)
class FeatureCounts:
    """The distinct features of many texts, sorted by text and then by feature.

    texts:    [entries] index of the text
    features: [entries] number of the feature
    counts:   [entries] how often the text has it, at least 1
    """

    texts: Positions
    features: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.integer[Any]]
    n_texts: int


def count_features(texts: Sequence[str], settings: FeatureSettings) -> FeatureCounts:
    """Return the hashed features of canonical `texts`."""
    owners, numbers = feature_occurrences(texts, settings)
    return count_occurrences(owners, numbers, n_texts=len(texts))


def feature_occurrences(texts: Sequence[str], settings: FeatureSettings) -> tuple[Positions, Hashes]:
    """Return [occurrences] the text and the number of each feature, in no particular order."""
    parts = _parts(ngrams.join_texts(texts), settings)
    return np.concatenate([part.owners for part in parts]), _numbers(parts, settings)


def count_occurrences(owners: Positions, numbers: Hashes, *, n_texts: int) -> FeatureCounts:
    """Count how often each text has each number, of 32 bits at most."""
    # text and number in one integer: one sort of integers in place of a slower one by two columns
    keys = owners.astype(np.uint64)
    keys <<= _NUMBER_BITS
    keys |= numbers
    keys.sort()
    # slices, because np.unique and np.diff check their arguments first, which shows in the time of one text
    is_first = np.ones(keys.size + 1, np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:-1])
    edges = is_first.nonzero()[0]  # of each run of equal keys, and the end of the last
    distinct = keys[edges[:-1]]
    return FeatureCounts(
        texts=(distinct >> _NUMBER_BITS).astype(np.intp),
        features=distinct.astype(np.uint32),  # the lower half
        counts=edges[1:] - edges[:-1],
        n_texts=n_texts,
    )


@dataclass(frozen=True)
class Located:
    """Every occurrence of a feature in joined texts, in no particular order.

    features: [occurrences] number of the feature
    families: [occurrences] which of `FAMILIES` it belongs to
    spans:    the characters of the joined texts that it covers; none where it is the whole text's
    """

    features: npt.NDArray[np.uint32]
    families: npt.NDArray[np.uint8]
    spans: Spans


def locate_features(joined: JoinedTexts, settings: FeatureSettings) -> Located:
    """Return where the features that `count_features` counts are: for explaining, not for scoring."""
    parts = _parts(joined, settings)
    locations = [part.locate() for part in parts]
    families, starts, ends = (np.concatenate(column) for column in zip(*locations, strict=True))
    return Located(_numbers(parts, settings).astype(np.uint32), families, Spans(starts, ends))


_Locations = tuple[npt.NDArray[np.uint8], Positions, Positions]
"""[features] family, and start and end of the characters that each covers."""


class _Part(NamedTuple):
    """Some features of one block: the text of each, its polynomial not yet mixed, and where it is.

    Scoring does not need to know where, so that is computed on demand.
    """

    block: int
    owners: Positions
    polynomials: Hashes
    locate: Callable[[], _Locations]


def _numbers(parts: Sequence[_Part], settings: FeatureSettings) -> Hashes:
    """Return [occurrences] number of each feature."""
    # mixed all at once: a call of numpy costs more than the arithmetic of one text's part
    numbers = ngrams.mix(np.concatenate([part.polynomials for part in parts]))
    numbers >>= np.uint64(64 - settings.bits)
    if settings.n_blocks > 1:
        firsts = np.array([part.block << settings.bits for part in parts], np.uint64)
        numbers |= firsts.repeat([part.owners.size for part in parts])
    return numbers


def _parts(joined: JoinedTexts, settings: FeatureSettings) -> list[_Part]:
    parts = [*_words(joined, settings)]
    if settings.shapes:
        parts += [*_shapes(joined), _sizes(joined)]
    return [*parts, _ngrams_across(joined)] if settings.phrases else parts


def _words(joined: JoinedTexts, settings: FeatureSettings) -> Iterator[_Part]:
    """Words, pairs of words, and the n-grams within words, in lower case."""
    # in Chinese and Japanese a "word" between blanks is a whole sentence; models of format 1 learned them so
    words = ngrams.word_spans(joined, split_ideographs=settings.format > 1)
    inside = ngrams.word_ngram_spans(joined, settings.ngram_min, settings.ngram_max)
    both = Spans(np.concatenate([words.starts, inside.starts]), np.concatenate([words.ends, inside.ends]))
    # words and n-grams in one pass; pairs and triples are made of the words' polynomials before an offset
    polynomials = ngrams.polynomials(joined.lower, both)
    owners, n_words = joined.owners[both.starts], words.starts.size
    if settings.word_pairs:
        yield _runs(_WORD_PAIR, owners[:n_words], polynomials[:n_words], lambda: words)
    if settings.phrases:
        yield _runs(_WORD_TRIPLE, owners[:n_words], polynomials[:n_words], lambda: words, length=3)
    polynomials[:n_words] += OFFSETS[_WORD]
    polynomials[n_words:] += OFFSETS[_NGRAM]
    yield _Part(_WORDS, owners[:n_words], polynomials[:n_words], lambda: _located(_WORD, words))
    yield _Part(_NGRAMS, owners[n_words:], polynomials[n_words:], lambda: _located(_NGRAM, inside))


def _shapes(joined: JoinedTexts) -> Iterator[_Part]:
    """Shapes of blank-separated tokens: X, x, d, u for classes, symbols as they are, runs cut at four."""
    whole = shape_codes(joined)
    shapes, owners = whole, joined.owners
    beyond = beyond_four(whole)
    if beyond.any():  # otherwise nothing needs to be copied
        kept = np.concatenate([KEPT_AT_FIRST, ~beyond])
        shapes, owners = shapes[kept], owners[kept]
    spans = ngrams.token_spans(shapes)
    owners, polynomials = owners[spans.starts], ngrams.polynomials(shapes, spans)

    def uncut() -> Spans:
        # the tokens are the same, but their characters are those of the text before runs were cut
        return ngrams.token_spans(whole)

    yield _runs(_SHAPE_PAIR, owners, polynomials, uncut)
    yield _Part(SHAPES_BLOCK, owners, polynomials + OFFSETS[_SHAPE], lambda: _located(_SHAPE, uncut()))


def shape_codes(joined: JoinedTexts) -> Codes:
    """Return [characters] X, x, d, u for the classes of letters and digits; symbols as they are."""
    shapes = _SHAPE_OF_CLASS[joined.classes]
    return np.where(shapes, shapes, joined.codes)


def beyond_four(shapes: Codes) -> npt.NDArray[np.bool_]:
    """Return [characters - 4] which characters, from the fifth on, are like the four before them."""
    same = shapes[1:] == shapes[:-1]
    beyond: npt.NDArray[np.bool_] = same[3:] & same[2:-1] & same[1:-2] & same[:-3]
    return beyond


def _runs(
    family: int, owners: Positions, polynomials: Hashes, spans: Callable[[], Spans], *, length: int = 2
) -> _Part:
    """Return pairs or triples in a row of a text: the pair of the first two, paired with the third."""
    last = length - 1
    firsts = (owners[last:] == owners[:-last]).nonzero()[0]
    joined = polynomials[firsts]
    for step in range(1, length):
        joined = ngrams.pairs(joined, polynomials[firsts + step])

    def locate() -> _Locations:
        single = spans()
        return _located(family, Spans(single.starts[firsts], single.ends[firsts + last]))

    block = SHAPES_BLOCK if family == _SHAPE_PAIR else _WORDS
    return _Part(block, owners[firsts], joined + OFFSETS[family], locate)


def _ngrams_across(joined: JoinedTexts) -> _Part:
    """Every six characters of a text with a blank inside, neither first nor last; in lower case."""
    runs = ngrams.ngram_spans(joined, _ACROSS_CHARACTERS)
    blanks = (joined.classes == ngrams.SPACE).cumsum()
    # more blanks up to the last but one than up to the first: one of the four in the middle is a blank
    starts = runs.starts[blanks[runs.ends - 2] > blanks[runs.starts]]
    spans = Spans(starts, starts + _ACROSS_CHARACTERS)
    polynomials = ngrams.polynomials(joined.lower, spans) + OFFSETS[_NGRAM_ACROSS]
    return _Part(_NGRAMS, joined.owners[spans.starts], polynomials, lambda: _located(_NGRAM_ACROSS, spans))


def _sizes(joined: JoinedTexts) -> _Part:
    """Length, capitals and digits of each text, in steps of half a power of two."""
    # one table of texts and classes of characters, so that a single bincount serves all three sizes
    cells = joined.owners * ngrams.N_CLASSES + joined.classes
    counted = np.bincount(cells, minlength=joined.n_texts * ngrams.N_CLASSES)
    by_class = counted.reshape(joined.n_texts, ngrams.N_CLASSES)
    sizes = np.empty((joined.n_texts, len(_SIZE_OFFSETS)), np.intp)
    by_class.sum(axis=1, out=sizes[:, 0])
    sizes[:, 1] = by_class[:, ngrams.UPPER]
    sizes[:, 2] = by_class[:, ngrams.DIGIT]
    steps = SIZE_STEPS.searchsorted(sizes, side="right").astype(np.uint64)
    owners = np.arange(joined.n_texts).repeat(len(_SIZE_OFFSETS))
    polynomials = (steps + _SIZE_OFFSETS).ravel()

    def locate() -> _Locations:
        # an empty span at the text's start: it covers no character, but shows which text it belongs to
        firsts = np.searchsorted(joined.owners, owners)
        return _located(LENGTH, Spans(firsts, firsts))

    return _Part(SHAPES_BLOCK, owners, polynomials, locate)


def _located(family: int, spans: Spans) -> _Locations:
    return np.full(spans.starts.size, family, np.uint8), spans.starts, spans.ends
