"""Where in a ring of slots a key lies, as far as one can tell without reading it. Knows no file.

A hash table in memory: ten bytes a slot of the ring, which a dictionary would need a hundred for. A
key belongs to one bucket of eight entries, each the number of a slot and one byte of the key to tell
most others apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

_WAYS = 8
_SLOTS_OF_A_BUCKET = 4
"""Half the entries stay free, so that hardly a bucket ever has more keys than entries."""

_NUMBER_MASK = 2**32 - 1
"""Numbers are kept modulo this; one that was mistaken for another's leads to another key's slot."""


@final
class Index:
    """Numbers of slots by key; a slot that was written over is forgotten by itself."""

    def __init__(self, n_slots: int):
        self.head = 0
        """The number of the slot that is written next."""
        self._n_slots = n_slots
        self._n_buckets = n_slots // _SLOTS_OF_A_BUCKET + 1
        self._tags = bytearray(self._n_buckets * _WAYS)  # 0 where there is no entry
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
        """Note that `key` has been written into the slot that was next."""
        first = self._bucket(key)
        at = self._tags.find(0, first, first + _WAYS)
        if at < 0:
            at = max(range(first, first + _WAYS), key=self._age)
        self._tags[at], self._numbers[at] = _tag(key), self.head & _NUMBER_MASK
        self.head += 1

    def skip_to(self, number: int) -> None:
        """Note that the slots up to `number` have been written and written over again."""
        self.head = max(self.head, number)

    def _bucket(self, key: bytes) -> int:
        return int.from_bytes(key[-8:], "big") % self._n_buckets * _WAYS

    def _age(self, at: int) -> int:
        """Return how many slots have been written since an entry's, itself included."""
        return (self.head - self._numbers[at]) & _NUMBER_MASK


def _tag(key: bytes) -> int:
    return key[0] or 1
