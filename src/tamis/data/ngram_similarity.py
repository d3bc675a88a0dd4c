"""Finds clusters of near duplicates in numpy, for installations without the compiled library.

The search never compares all pairs and still finds every near duplicate. Of two near duplicates, one of
the rarest 5-grams of each is shared (prefix filter: Chaudhuri, Ganti and Kaushik, ICDE 2006), so only
texts that share such a *prefix token* are compared, nearest in size first. A pair is skipped when its
sizes differ too much, or when the xor of two 64-bit parity sketches has more bits than the sets may have
unshared members; the other pairs are compared 5-gram by 5-gram. `native/src/near_duplicates.rs` finds the
same clusters.

    forms ─► _ngram_sets        sorted keys of text and 5-gram, sizes, sketches
          ─► _prefix_tokens     each text's rarest 5-grams, sorted: texts that share one are neighbours
          ─► _SimilaritySearch  neighbours 1 apart, 2 apart, … 1,000 apart: similar? join their components
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tamis.ngrams import Spans, join_texts, ngram_spans, span_hashes
from tamis.types import Progress

Indices = npt.NDArray[np.intp]
Keys = npt.NDArray[np.uint64]

NGRAM = 5
# bounds the comparisons in a large cluster, which would be quadratic in its size
_MAX_NEIGHBOURS = 1000
CHUNK = 1 << 20
_RARITY_BITS = 22  # rarity is counted by hash slots; a shared slot costs a little time, never a pair
# a similarity of exactly the threshold counts, whatever the last bit of the product
_ROUNDING = 1e-9
_HALF = np.uint64(32)
_LOWER = np.uint64(0xFFFFFFFF)
_NO_KEYS = np.zeros(0, np.uint64)


def clusters_in_numpy(forms: Sequence[str], *, threshold: float, chunk: int, progress: Progress) -> Indices:
    """Return [forms] the smallest index of each form's cluster; no form is shorter than a 5-gram.

    `chunk` is how many characters, 5-grams or pairs are looked at together: it bounds the memory
    and changes no result.
    """
    search = _SimilaritySearch(_ngram_sets(forms, chunk), threshold, chunk, _Components(len(forms)))
    search.run(progress)
    return search.groups.roots


@dataclass(frozen=True)
class _NgramSets:
    """The 5-grams of each text as a set.

    keys:     [members] text in the upper half, hash of the 5-gram in the lower, sorted
    sizes:    [texts] members of each text's set, at least 1
    sketches: [texts] parity of the members that fall on each of 64 bits
    """

    keys: Keys
    sizes: Indices
    sketches: Keys

    @cached_property
    def starts(self) -> Indices:
        """[texts] where each text's members begin."""
        return np.cumsum(self.sizes) - self.sizes


def _ngram_sets(forms: Sequence[str], chunk_size: int) -> _NgramSets:
    keys, sizes, sketches = [_NO_KEYS], [np.zeros(0, np.intp)], [_NO_KEYS]
    for chunk in _chunks(np.fromiter(map(len, forms), np.intp, len(forms)), chunk_size):
        owners, hashes = _hashed_ngrams(forms[chunk])
        members = np.unique(owners.astype(np.uint64) << _HALF | hashes >> _HALF)
        size = np.bincount(_upper(members), minlength=chunk.stop - chunk.start)
        # one bit of 64 for each member; xor of the bits is the parity that the search compares
        bits = np.uint64(1) << (members & np.uint64(63))
        keys.append(members + (np.uint64(chunk.start) << _HALF))
        sizes.append(size)
        sketches.append(np.bitwise_xor.reduceat(bits, np.cumsum(size) - size))
    return _NgramSets(np.concatenate(keys), np.concatenate(sizes), np.concatenate(sketches))


def _hashed_ngrams(forms: Sequence[str]) -> tuple[Indices, Keys]:
    """Return text and hash of every 5-gram; no text is shorter than one."""
    joined = join_texts(forms)
    with_neighbours = ngram_spans(joined, NGRAM + 2)  # join_texts puts a space on either side of a text
    spans = Spans(with_neighbours.starts + 1, with_neighbours.ends - 1)
    return joined.owners[spans.starts], span_hashes(joined.codes, spans, family=0)


def _prefix_tokens(grams: _NgramSets, rank_of_text: Indices, *, threshold: float, chunk_size: int) -> Keys:
    """Return each text's rarest 5-grams: hash in the upper half, the text's rank in the lower, sorted."""
    rarity = np.zeros(1 << _RARITY_BITS, np.intp)
    for start in range(0, grams.keys.size, CHUNK):
        np.add.at(rarity, _rarity_slot(grams.keys[start : start + CHUNK]), 1)
    # two sets of this similarity share a member among the rarest n − ⌈t·n⌉ + 1 of each
    wanted = grams.sizes - np.ceil(threshold * grams.sizes - _ROUNDING).astype(np.intp) + 1
    tokens = [_NO_KEYS]
    for chunk in _chunks(grams.sizes, chunk_size):
        first = grams.starts[chunk.start]
        members = grams.keys[first : first + grams.sizes[chunk].sum()]
        texts = _upper(members)
        # stable: all texts rank 5-grams of equal rarity in the same order
        rarest_first = np.argsort(texts << 32 | rarity[_rarity_slot(members)], kind="stable")
        rank = np.arange(first, first + members.size) - grams.starts[texts]
        kept = rank < wanted[texts]  # texts are in the same order before and after the sort
        hashes = members[rarest_first][kept] << _HALF
        tokens.append(hashes | rank_of_text[texts[kept]].astype(np.uint64))
    joined = np.concatenate(tokens)
    joined.sort()
    return joined


@dataclass(frozen=True)
class _SimilaritySearch:
    """Compares every text with those that share one of its tokens, and joins near duplicates."""

    grams: _NgramSets
    threshold: float
    chunk_size: int
    groups: _Components

    def run(self, progress: Progress) -> None:
        """Walk over the sorted tokens: neighbours first, then texts two positions apart, and so on."""
        # by size, so that the search may stop at the first text that is too large
        by_size = np.argsort(self.grams.sizes, kind="stable")
        rank_of_text = np.empty_like(by_size)
        rank_of_text[by_size] = np.arange(by_size.size)
        tokens = _prefix_tokens(
            self.grams, rank_of_text, threshold=self.threshold, chunk_size=self.chunk_size
        )
        texts = by_size[(tokens & _LOWER).astype(np.intp)]
        ends = _ends_of_runs(tokens >> _HALF)
        open_tokens = np.arange(tokens.size)
        for distance in range(1, _MAX_NEIGHBOURS + 1):
            open_tokens = open_tokens[open_tokens + distance < ends[open_tokens]]
            if distance.bit_count() == 1:  # now and then: clusters that are joined already
                roots = self.groups.roots[texts]
                # a run of equal roots is one group: compare its number here and at the end of the run
                changes = np.concatenate([[0], np.cumsum(roots[1:] != roots[:-1])])
                open_tokens = open_tokens[(changes != changes[ends - 1])[open_tokens]]
            progress(tokens.size - open_tokens.size, tokens.size)
            if not open_tokens.size:
                break
            open_tokens = self._compare(texts, open_tokens, distance)

    def _compare(self, texts: Indices, open_tokens: Indices, distance: int) -> Indices:
        """Join near duplicates `distance` apart; return the tokens whose next text is similar in size."""
        still_open = [np.zeros(0, np.intp)]
        for start in range(0, open_tokens.size, self.chunk_size):
            tokens = open_tokens[start : start + self.chunk_size]
            smaller, larger = texts[tokens], texts[tokens + distance]
            near = self.grams.sizes[smaller] / self.grams.sizes[larger] >= self.threshold
            still_open.append(tokens[near])  # the texts of a prefix token are sorted by size
            self._join_near_duplicates(smaller[near], larger[near])
        return np.concatenate(still_open)

    def _join_near_duplicates(self, smaller: Indices, larger: Indices) -> None:
        grams = self.grams
        # cheapest test first: most pairs of a large cluster are joined already
        apart = self.groups.roots[smaller] != self.groups.roots[larger]
        smaller, larger = smaller[apart], larger[apart]
        # each bit of the xor stands for at least one member that only one of the sets has
        unshared = np.bitwise_count(grams.sketches[smaller] ^ grams.sketches[larger])
        # of |A| + |B| members, two near duplicates have at most this share in only one set
        share = (1 - self.threshold) / (1 + self.threshold)
        max_unshared = (grams.sizes[smaller] + grams.sizes[larger]) * share + _ROUNDING
        possible = unshared <= max_unshared
        # two texts may share several prefix tokens
        pairs = np.unique(smaller[possible] << 32 | larger[possible])
        for chunk in _chunks(grams.sizes[pairs >> 32], self.chunk_size):
            one, other = pairs[chunk] >> 32, pairs[chunk] & 0xFFFFFFFF
            shared = _shared_members(grams, one, other)
            similar = shared / (grams.sizes[one] + grams.sizes[other] - shared) >= self.threshold
            self.groups.join(one[similar], other[similar])


def _shared_members(grams: _NgramSets, one: Indices, other: Indices) -> Indices:
    """[pairs] how many 5-grams two texts share."""
    sizes = grams.sizes[one]
    first = np.cumsum(sizes) - sizes
    members = np.repeat(grams.starts[one] - first, sizes) + np.arange(sizes.sum())
    wanted = np.repeat(other, sizes).astype(np.uint64) << _HALF | grams.keys[members] & _LOWER
    # a key larger than all others is searched at the end of the array
    found = np.minimum(np.searchsorted(grams.keys, wanted), grams.keys.size - 1)
    return np.add.reduceat(grams.keys[found] == wanted, first, dtype=np.intp)


class _Components:
    """Connected components; `roots[i]` is the smallest member of i's component."""

    def __init__(self, size: int):
        self.roots: Indices = np.arange(size)

    def join(self, one: Indices, other: Indices) -> None:
        """Join the components of each pair."""
        while (self.roots[one] != self.roots[other]).any():
            roots = np.sort(np.stack([self.roots[one], self.roots[other]]), axis=0)
            # the smaller root wins, so the result does not depend on the order of the pairs
            np.minimum.at(self.roots, roots[1], roots[0])
            # path compression: every root must point at itself before the next round
            while (self.roots[self.roots] != self.roots).any():
                self.roots = self.roots[self.roots]


def _chunks(sizes: Indices, chunk_size: int) -> Iterator[slice]:
    """Cut items into stretches of about `chunk_size` in all."""
    number = np.cumsum(sizes) // chunk_size
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), sizes.size]
    return (slice(start, stop) for start, stop in pairwise(edges) if start < stop)


def _ends_of_runs(values: Keys) -> Indices:
    """[values] where the run of equal values that each belongs to ends."""
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]) + 1, values.size)
    return np.repeat(ends, np.diff(ends, prepend=0))


def _rarity_slot(keys: Keys) -> Indices:
    return ((keys & _LOWER) >> np.uint64(32 - _RARITY_BITS)).astype(np.intp)


def _upper(keys: Keys) -> Indices:
    return (keys >> _HALF).astype(np.intp)
