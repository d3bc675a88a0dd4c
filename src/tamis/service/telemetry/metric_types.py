"""Metric types: a metric's series, their offsets in shared memory, and how a histogram is updated.

All label values are fixed in the definition, so memory and the size of a scrape are bounded by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from itertools import product
from math import prod

from tamis.service.telemetry.shared_values import LAYOUT_BYTES


class Merge(Enum):
    """How the values of several processes are combined."""

    # counters: what an ended process has counted has happened all the same
    SUM = "sum, of ended processes too"
    SUM_OF_LIVING = "sum, of living processes only"
    MAX_OF_LIVING = "the highest of the living processes"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with all its series; `bounds` are the upper ends of a histogram's buckets."""

    name: str
    kind: str
    help_text: str
    labels: Mapping[str, Sequence[str]]
    first: int
    merge: Merge = Merge.SUM
    bounds: Sequence[float] = ()

    @property
    def width(self) -> int:
        """The slots of one series; a histogram's are its buckets, the last without bound, and its sum."""
        return len(self.bounds) + 2 if self.bounds else 1

    @property
    def size(self) -> int:
        """The slots of all series."""
        return self.width * prod(map(len, self.labels.values()))

    def series(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield the first slot of each series and the values of its labels."""
        for index, values in enumerate(product(*self.labels.values())):
            yield self.first + index * self.width, values

    def slot(self, *values: str) -> int:
        """Return the first slot of the series with these values of the labels."""
        index = 0  # row-major, in the order of `itertools.product` in `series`
        for value, allowed in zip(values, self.labels.values(), strict=True):
            index = index * len(allowed) + allowed.index(value)
        return self.first + index * self.width


class MetricLayout:
    """Assigns each metric its offsets, one after the other."""

    def __init__(self) -> None:
        self.families: list[Metric] = []
        self.size = 0

    @property
    def digest(self) -> bytes:
        """A digest of the meaning of every offset: processes with different digests do not share a slot."""
        # the definitions themselves, so that no version number has to be raised by hand
        return blake2b(repr(self.families).encode(), digest_size=LAYOUT_BYTES).digest()

    def counter(self, name: str, help_text: str, **labels: Sequence[str]) -> Metric:
        """Add a counter."""
        return self._add(Metric(name, "counter", help_text, labels, self.size))

    def gauge(self, name: str, help_text: str, merge: Merge) -> Metric:
        """Add a gauge."""
        return self._add(Metric(name, "gauge", help_text, {}, self.size, merge))

    def histogram(
        self, name: str, help_text: str, bounds: Sequence[float], **labels: Sequence[str]
    ) -> Metric:
        """Add a histogram."""
        return self._add(Metric(name, "histogram", help_text, labels, self.size, bounds=bounds))

    def _add(self, family: Metric) -> Metric:
        self.families.append(family)
        self.size += family.size
        return family


class Histogram:
    """Writes one series of a histogram."""

    __slots__ = ("_bounds", "_slot", "_sum", "_values")

    def __init__(self, values: memoryview[float], slot: int, bounds: Sequence[float]):
        self._values, self._slot, self._bounds = values, slot, bounds
        self._sum = slot + len(bounds) + 1

    def observe(self, number: float) -> None:
        """Add one observation; a bucket includes its upper bound, as in Prometheus."""
        values = self._values
        values[self._slot + bisect_left(self._bounds, number)] += 1.0
        values[self._sum] += number
