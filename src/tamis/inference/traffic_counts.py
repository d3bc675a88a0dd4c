"""Counts of a model's canary or shadow, added up over all workers in one small file.

    a request ───────► answered ─┐
    a second scoring ► compared ─┴► counts of this process ── flush, in a thread ──► the file of all workers
                                                                                       │
                     excess, /models/{name}, /metrics ◄──────────── totals ◄──────────┘

The file is created with a canary or shadow and removed with it; after a restart, counting continues from it.
It holds counts only, never a text.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import numpy.typing as npt

from tamis.artifact.traffic import Canary
from tamis.inference.shared_file import SharedFile
from tamis.proportions import wilson

ComparisonResult = Literal["agreed", "disagreed", "dropped", "failed"]
SIDES = ("served", "canary")
RESULTS: tuple[ComparisonResult, ...] = get_args(ComparisonResult)
# upper bounds of the histogram buckets: of latencies in seconds, and of differences of a probability
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
DIFFERENCES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_MIN_OBSERVATIONS = 30
"""A canary is not aborted on fewer requests or comparisons."""

# a digest of the record's layout: a file of another layout is started anew
_HEADER_BYTES = 16
_NORMAL_975 = 1.959964  # quantile .975 of the normal distribution: two-sided intervals of 95 %


@dataclass(frozen=True)
class Side:
    """The requests that one side answered, in all workers.

    seconds: sum of the latencies
    squares: sum of their squares, for the variance
    buckets: requests by latency; the bounds are `SECONDS`, the last bucket has none
    """

    requests: int
    errors: int
    seconds: float
    squares: float
    buckets: list[float]
    labels: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return rates and shares with Wilson's interval of 95 %, the mean latency with the normal one."""
        n, texts = self.requests, sum(self.labels.values())
        mean = self.seconds / n if n else 0.0
        # max: rounding can make the variance of equal latencies negative
        half = _NORMAL_975 * sqrt(max(0.0, self.squares / n - mean * mean) / n) if n else 0.0
        return {
            "requests": n,
            "errors": _share(self.errors, n),
            "seconds": {"mean": mean, "low": max(0.0, mean - half), "high": mean + half},
            "labels": {label: _share(count, texts) for label, count in self.labels.items()},
        }


def _share(count: int, total: int) -> dict[str, float]:
    low, high = wilson(count, total)
    return {"count": count, "share": count / total if total else 0.0, "low": low, "high": high}


@final
class TrafficCounts:
    """Counts of this process and the totals of all workers; belongs to the event loop's thread."""

    def __init__(self, path: Path, labels: Sequence[str]):
        self.path, self._labels = path, {label: index for index, label in enumerate(labels)}
        n_buckets = len(SECONDS) + 1
        # float64 throughout, so that two records are added as flat arrays; counts are exact up to 2**53
        fields: list[tuple[Any, ...]] = [
            (name, "<f8", 2) for name in ("requests", "errors", "seconds", "squares")
        ]
        fields += [("buckets", "<f8", (2, n_buckets)), ("labels", "<f8", (2, len(labels)))]
        fields += [("results", "<f8", len(RESULTS)), ("compared_seconds", "<f8"), ("differences", "<f8")]
        fields += [
            ("compared_buckets", "<f8", n_buckets),
            ("difference_buckets", "<f8", len(DIFFERENCES) + 1),
        ]
        self._type = np.dtype(fields)
        # counts of other labels, or of another layout, are discarded
        self._header = blake2b(repr((labels, fields)).encode(), digest_size=_HEADER_BYTES).digest()
        self._file = SharedFile(path, _HEADER_BYTES + self._type.itemsize, subject="traffic")
        self._counted, self.totals = np.zeros(1, self._type), np.zeros(1, self._type)

    def answered(
        self, *, is_canary: bool, is_error: bool, seconds: float, labels: Sequence[str] = ()
    ) -> None:
        """Count a request to the canary or to the served version."""
        side, counted = int(is_canary), self._counted[0]
        counted["requests"][side] += 1
        counted["errors"][side] += is_error
        counted["seconds"][side] += seconds
        counted["squares"][side] += seconds * seconds
        counted["buckets"][side, bisect_left(SECONDS, seconds)] += 1
        for label in labels:
            index = self._labels.get(label)  # the served version may have others by now
            if index is not None:
                counted["labels"][side, index] += 1

    def compared(self, result: ComparisonResult, seconds: float = 0.0, difference: float = 0.0) -> None:
        """Count a text that was scored a second time or dropped.

        `seconds` is the time of the second scoring; `difference` that of the predicted label's probability.
        """
        counted = self._counted[0]
        counted["results"][RESULTS.index(result)] += 1
        if result in ("agreed", "disagreed"):
            counted["compared_seconds"] += seconds
            counted["compared_buckets"][bisect_left(SECONDS, seconds)] += 1
            counted["differences"] += difference
            counted["difference_buckets"][bisect_left(DIFFERENCES, difference)] += 1

    async def flush(self) -> None:
        """Add this process's counts to the file, and read the totals of all workers.

        Raises TimeoutError if another process keeps the file's lock; the next flush adds these counts, too.
        """
        # replaced first: requests are counted while the thread writes
        counted, self._counted = self._counted, np.zeros(1, self._type)
        try:
            self.totals = await asyncio.to_thread(self._add, counted)
        except TimeoutError:
            # what was counted meanwhile is in the new record: add to it
            self._counted.view("<f8")[:] += counted.view("<f8")
            raise

    def close(self) -> None:
        """Close the file; the counts stay in it."""
        self._file.close()

    def side(self, name: str) -> Side:
        """Return the totals of one of `SIDES`."""
        found, side = self.totals[0], SIDES.index(name)
        requests, errors, seconds, squares = (
            float(found[field][side]) for field in ("requests", "errors", "seconds", "squares")
        )
        labels = {label: int(found["labels"][side, index]) for label, index in self._labels.items()}
        buckets = found["buckets"][side].tolist()
        return Side(int(requests), int(errors), seconds, squares, buckets, labels)

    @property
    def results(self) -> dict[ComparisonResult, int]:
        """The comparisons of all workers by their result."""
        return dict(zip(RESULTS, map(int, self.totals[0]["results"]), strict=True))

    def excess(self, canary: Canary) -> str:
        """Return why the canary must be aborted, an empty string while its rates are within bounds."""
        side, results = self.side("canary"), self.results
        compared = results["agreed"] + results["disagreed"]
        for name, count, total, bound in (
            ("errors", side.errors, side.requests, canary.max_errors),
            ("disagreement", results["disagreed"], compared, canary.max_disagreement),
        ):
            # the lower end of the interval: an abort needs evidence, not a few unlucky requests
            if bound is not None and total >= _MIN_OBSERVATIONS and wilson(count, total)[0] > bound:
                return f"{name}: {count} of {total} is over {bound:.2%}"
        return ""

    def comparisons(self) -> dict[str, Any]:
        """Return the comparisons, with the share of disagreement and its interval."""
        results, found = self.results, self.totals[0]
        compared = results["agreed"] + results["disagreed"]
        counts: dict[str, Any] = {str(result): count for result, count in results.items()}
        return counts | {
            "disagreement": _share(results["disagreed"], compared),
            "mean_difference": float(found["differences"]) / compared if compared else 0.0,
            "mean_seconds": float(found["compared_seconds"]) / compared if compared else 0.0,
        }

    def _add(self, counted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Add counts to the file and return its totals; a file with another header starts from zero."""
        with self._file.locked():
            data = self._file.read(0, self._file.size)
            totals = np.zeros(1, self._type)
            if data.startswith(self._header):
                totals = np.frombuffer(data, self._type, 1, _HEADER_BYTES).copy()
            # a worker without requests reads the totals and writes nothing
            if counted.view("<f8").any():
                totals.view("<f8")[:] += counted.view("<f8")
                self._file.write(self._header + totals.tobytes(), 0)
        return totals
