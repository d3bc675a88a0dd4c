"""Texts whose features are counted once, for every fit and every prediction of a training:

    texts ──► chunks ──► features, counts of each text ──► ids ──► compressed sparse rows
                (one thread per processor)        (the most frequent feature has id 0)

    row of a text: ids[starts[row] : starts[row + 1]], and the counts at the same positions

Frequent features have small ids, so that the weights that are read most often lie together in memory.
Needed for training only. Independent of labels and weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tamis.models.linear.features import FeatureCounts, FeatureSettings, count_features
from tamis.models.linear.native import native_counter
from tamis.native import CountedTextsParts, address_of
from tamis.training.trainers.base import EncodedTexts
from tamis.types import Progress, no_progress

CHUNK_TEXTS = 2048
"""Texts that are counted together: the arrays in between are large."""

# the model's values stop growing long before; two bytes a count keep a large table small
_MAX_COUNT = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class CountTable:
    """The counted features of many texts, in compressed sparse rows.

    starts:  [texts + 1] where each text's entries begin
    ids:     [entries] id of the feature; a text's are in ascending order of their numbers
    counts:  [entries] how often the text has it
    numbers: [ids] number of each feature
    """

    settings: FeatureSettings
    starts: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint16]
    numbers: npt.NDArray[np.uint32]

    @property
    def blocks(self) -> npt.NDArray[np.uint8]:
        """[ids] block of each feature."""
        if self.settings.n_blocks == 1:
            return np.zeros(self.numbers.size, np.uint8)
        return (self.numbers >> self.settings.bits).astype(np.uint8)

    def parts(self) -> CountedTextsParts:
        """Return the table as the compiled library reads it, for as long as this table lives."""
        return CountedTextsParts(
            starts=address_of(self.starts),
            ids=address_of(self.ids),
            counts=address_of(self.counts),
            n_texts=self.starts.size - 1,
            n_entries=self.ids.size,
            n_features=self.numbers.size,
        )

    def entries_of(self, rows: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return [entries] the position in `rows` and the index of each entry of these rows."""
        # [3, 4, 5, 9, 10] for rows of 3 and 2 entries that start at 3 and 9, without a loop over rows
        starts = self.starts[rows].astype(np.intp)
        sizes = self.starts[rows.astype(np.intp) + 1].astype(np.intp) - starts
        owners = np.arange(rows.size).repeat(sizes)
        firsts = np.cumsum(sizes) - sizes
        return owners, np.arange(owners.size) + (starts - firsts).repeat(sizes)


class CountedTexts(EncodedTexts):
    """Canonical texts with their row in a table of counted features."""

    def __init__(self, texts: Sequence[str], table: CountTable, rows: npt.NDArray[np.uint32]):
        super().__init__(texts)
        self.table, self.rows = table, rows

    def select(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> CountedTexts:
        """Return the texts at `rows`, in that order, with their counts."""
        chosen = np.asarray(rows, np.intp)
        texts = [self._texts[row] for row in chosen.tolist()]
        return CountedTexts(texts, self.table, self.rows[chosen])


def count_texts(
    texts: Sequence[str], settings: FeatureSettings, *, progress: Progress = no_progress
) -> CountedTexts:
    """Count the features of canonical `texts`, on all processors."""
    parts, done = [_EMPTY], 0
    for part in _counted_chunks(texts, settings):
        parts.append(part)
        done += part.sizes.size
        progress(done, len(texts))
    sizes, features, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts  # a million short texts have 226 million entries: not twice in memory
    numbers, ids = _ids(features, settings)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    table = CountTable(settings, starts, ids, counts, numbers)
    return CountedTexts(texts, table, np.arange(len(texts), dtype=np.uint32))


def n_processors() -> int:
    """Return how many processors this process may use."""
    # under taskset or in a cpuset that is fewer than the machine has
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    """Cut `texts` into chunks to count."""
    return [texts[start : start + CHUNK_TEXTS] for start in range(0, len(texts), CHUNK_TEXTS)]


class _CountedChunk(NamedTuple):
    """The features of some texts: [texts] how many each has, then [entries] numbers and counts."""

    sizes: npt.NDArray[np.intp]
    features: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint16]


_EMPTY = _CountedChunk(np.zeros(0, np.intp), np.zeros(0, np.uint32), np.zeros(0, np.uint16))


def _counted_chunks(texts: Sequence[str], settings: FeatureSettings) -> Iterator[_CountedChunk]:
    native = native_counter(settings)
    if native is None:
        yield from map(_part, map(partial(count_features, settings=settings), chunks(texts)))
        return
    with ThreadPoolExecutor(n_processors()) as threads:
        yield from threads.map(lambda chunk: _part(native(chunk)), chunks(texts))


def _part(counted: FeatureCounts) -> _CountedChunk:
    """Keep sizes in place of the text of each entry: of many texts those would take most of the memory."""
    sizes = np.bincount(counted.texts, minlength=counted.n_texts)
    return _CountedChunk(sizes, counted.features, np.minimum(counted.counts, _MAX_COUNT).astype(np.uint16))


def _ids(
    features: npt.NDArray[np.uint32], settings: FeatureSettings
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return [ids] number of each feature, the most frequent first, and [entries] id."""
    documents = np.zeros(settings.n_numbers, np.int64)
    # in chunks, because bincount makes a copy of eight bytes an entry
    for start in range(0, features.size, 1 << 24):
        documents += np.bincount(features[start : start + (1 << 24)], minlength=settings.n_numbers)
    seen = np.flatnonzero(documents)
    # stable: equally frequent features in order of their numbers, so that the same texts give the same ids
    numbers = seen[np.argsort(-documents[seen], kind="stable")].astype(np.uint32)
    id_of = np.zeros(settings.n_numbers, np.uint32)
    id_of[numbers] = np.arange(numbers.size, dtype=np.uint32)
    return numbers, id_of[features]
