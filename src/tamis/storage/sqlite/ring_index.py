"""An index of a ring of slots: which slots may hold a key. Knows no file.

A hash table in memory of ten bytes per slot of the ring, where the keys of a dictionary alone take 32. A key
belongs to one bucket of eight entries, each the number of a slot and a tag, one byte of the key, which most
other keys do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint8]
"""[n, bytes] keys."""

# eight one-byte tags are one 64-bit word, which numpy compares at once
_WAYS = 8
_SLOTS_OF_A_BUCKET = 4
"""Half the entries stay free, so that a bucket hardly ever has more keys than entries."""

_FIRST_BITS = np.uint64(0x0101010101010101)
_LAST_BITS = np.uint64(0x8080808080808080)
"""Of each byte of a bucket's tags, which are looked at as one number where there are many keys."""

_MIN_WORD_WITH = np.uint64(256) ** np.arange(_WAYS, dtype=np.uint64)
"""The smallest value of a bucket's tags as one number, by how many of its entries are used."""

_NUMBER_MASK = 2**32 - 1
"""Slot numbers are stored modulo 2**32; a wrong one leads to another key's slot, which is no answer."""


@final
class RingIndex:
    """Numbers of slots by key; entries of slots that were overwritten are ignored."""

    def __init__(self, n_slots: int):
        self.head = 0
        """The number of the slot that is written next."""
        self._n_slots = n_slots
        self._n_buckets = n_slots // _SLOTS_OF_A_BUCKET + 1
        self._tags = bytearray(self._n_buckets * _WAYS)  # 0 where there is no entry
        # a memoryview gives Python's integers, an array objects of numpy, which take several times as long
        self._numbers = np.zeros(self._n_buckets * _WAYS, np.uint32).data

    def find(self, key: bytes) -> Sequence[int]:
        """Return the numbers of slots where `key` may be."""
        first, tag = self._bucket(key), _tag(key)
        at = self._tags.find(tag, first, first + _WAYS)
        if at < 0:
            return ()
        found = []
        while at >= 0:
            age = self._age(at)
            if age <= self._n_slots:
                found.append(self.head - age)
            at = self._tags.find(tag, at + 1, first + _WAYS)
        return found

    def add(self, key: bytes) -> None:
        """Record that `key` was written into the next slot."""
        self.head += 1
        self._put(key, self.head - 1)

    def maybe_contains(self, keys: Keys) -> list[int]:
        """Return the positions, ascending, of those keys that `find` may find a number for."""
        wanted = np.maximum(keys[:, 0], 1) * _FIRST_BITS
        differing = self._words()[self._buckets(keys)] ^ wanted
        # not zero exactly if a byte of `differing` is zero, which is where a tag is the wanted one
        has_zero_byte = (differing - _FIRST_BITS) & ~differing & _LAST_BITS
        return np.flatnonzero(has_zero_byte).tolist()

    def add_many(self, keys: Keys) -> None:
        """Record keys as `add` would one after the other, a million in a fifth of a second."""
        first, self.head = self.head, self.head + len(keys)
        tags, numbers = np.frombuffer(self._tags, np.uint8), np.frombuffer(self._numbers, np.uint32)
        buckets = self._buckets(keys)
        order, positions = np.argsort(buckets, kind="stable"), np.arange(len(keys))
        buckets = buckets[order]
        begins = np.append(True, buckets[1:] != buckets[:-1])
        before = positions - np.maximum.accumulate(positions * begins)  # new keys in the same bucket
        # entries are used in their order
        entry = np.searchsorted(_MIN_WORD_WITH, self._words()[buckets], side="right") + before
        fits = entry < _WAYS
        at, which = buckets[fits] * _WAYS + entry[fits], order[fits]
        tags[at], numbers[at] = np.maximum(keys[which, 0], 1), (first + which) & _NUMBER_MASK
        # buckets that are full: one by one, each replaces the oldest entry
        for other in order[~fits].tolist():
            self._put(keys[other].tobytes(), first + other)

    def skip_to(self, number: int) -> None:
        """Record that the slots up to `number` were written and overwritten."""
        self.head = max(self.head, number)

    def _put(self, key: bytes, number: int) -> None:
        first = self._bucket(key)
        at = self._tags.find(0, first, first + _WAYS)
        if at < 0:  # the oldest makes room
            at = max(range(first, first + _WAYS), key=self._age)
        self._tags[at], self._numbers[at] = _tag(key), number & _NUMBER_MASK

    def _bucket(self, key: bytes) -> int:
        # keys are digests, so their bytes are hashes; `_tag` uses another one
        return int.from_bytes(key[-8:], "big") % self._n_buckets * _WAYS

    def _buckets(self, keys: Keys) -> npt.NDArray[np.intp]:
        hashes = np.ascontiguousarray(keys[:, -8:]).view(">u8")[:, 0]
        return (hashes % self._n_buckets).astype(np.intp)

    def _words(self) -> npt.NDArray[np.uint64]:
        """Return the tags of each bucket as one number, the first the lowest byte."""
        return np.frombuffer(self._tags, "<u8")

    def _age(self, at: int) -> int:
        """Return how many slots have been written since an entry's, itself included."""
        return (self.head - self._numbers[at]) & _NUMBER_MASK


def _tag(key: bytes) -> int:
    # 0 means that the entry is free
    return key[0] or 1
