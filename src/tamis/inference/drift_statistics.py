"""How far a histogram of today's texts is from the one at training: PSI with an interval, and a test.

The population stability index is sum((p - q) * ln(p / q)) over bins. For two samples of one distribution,
n*m / (n + m) times it is about chi-squared; for two distributions, about noncentral chi-squared, whose
parameter gives the interval. Handles counts; independent of texts, models and files.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.proportions import wilson

Floats = npt.NDArray[np.float64]
Histogram = npt.NDArray[Any]

SIGNIFICANCE = 0.001
"""A change is reported below this p-value: a service looks at its windows again and again."""
# the usual rule for the chi-squared approximation: cells with less are merged with their neighbours
_MIN_EXPECTED = 5.0
_NORMAL = NormalDist()
# each halves the interval: 60 leave less than the last bit of a float
_BISECTIONS = 60


@dataclass(frozen=True)
class HistogramChange:
    """How far two histograms are apart.

    psi:       estimate without the part that chance alone adds, at least 0
    low, high: 95 % interval of the PSI of the two distributions
    p_value:   of the chi-squared test that both are samples of one distribution
    """

    psi: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class ShareChange:
    """The share of one label then and now, and the 95 % interval of the difference (Newcombe)."""

    label: str
    reference: float
    current: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """How much the share has grown."""
        return self.current - self.reference


def compare_histograms(
    reference: Histogram, current: Histogram, *, is_ordered: bool = True
) -> HistogramChange | None:
    """Compare two histograms with the same [bins]; None if there are too few counts to compare.

    Bins with few expected counts are merged: neighbours if the bins are ordered, else the rarest.
    """
    then, now = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    if not then.sum() or not now.sum():
        return None
    if not is_ordered:
        # the rarest last, because `_merged` merges each bin with the next
        order = np.argsort(-(then + now), kind="stable")
        then, now = then[order], now[order]
    then, now = _merged(then, now)
    degrees_of_freedom = then.size - 1
    if degrees_of_freedom == 0:
        return None
    size = float(then.sum() * now.sum() / (then.sum() + now.sum()))
    statistic = size * _psi(then, now)
    # the 95 % interval of the noncentrality from which the statistic was drawn
    low, high = (_solve_noncentrality(statistic, degrees_of_freedom, chance) for chance in (0.975, 0.025))
    return HistogramChange(
        # of two samples of one distribution, the statistic has the mean `degrees_of_freedom`
        psi=max(0.0, statistic - degrees_of_freedom) / size,
        low=low / size,
        high=high / size,
        p_value=1 - chi2_cdf(_chi2(then, now), degrees_of_freedom),
    )


def compare_shares(labels: tuple[str, ...], reference: Histogram, current: Histogram) -> list[ShareChange]:
    """Return the change of each label's share, from the [labels] counts then and now."""
    then, now = int(reference.sum()), int(current.sum())
    return [
        _share_change(label, int(before), then, int(after), now)
        for label, before, after in zip(labels, reference, current, strict=True)
    ]


def chi2_cdf(value: float, degrees_of_freedom: float, noncentrality: float = 0.0) -> float:
    """Return the distribution function of noncentral chi-squared, to about 0.02
    where `value` is not far below the mean.

    Source: Abdel-Aty, "Approximate formulae for the percentage points and the probability integral of the
    non-central chi-squared distribution", 1954; without noncentrality it is Wilson and Hilferty's.
    """
    mean = degrees_of_freedom + noncentrality
    spread = 2 * (degrees_of_freedom + 2 * noncentrality) / (9 * mean * mean)
    return _NORMAL.cdf(((value / mean) ** (1 / 3) - (1 - spread)) / sqrt(spread))


def _share_change(label: str, before: int, then: int, after: int, now: int) -> ShareChange:
    old, new = before / max(1, then), after / max(1, now)
    old_low, old_high = wilson(before, then)
    new_low, new_high = wilson(after, now)
    difference = new - old
    low = difference - sqrt((new - new_low) ** 2 + (old_high - old) ** 2)
    high = difference + sqrt((new_high - new) ** 2 + (old - old_low) ** 2)
    return ShareChange(label, old, new, max(-1.0, low), min(1.0, high))


def _merged(then: Floats, now: Floats) -> tuple[Floats, Floats]:
    """Merge each bin into the next until both samples expect enough counts in it."""
    smaller = min(then.sum(), now.sum()) / (then.sum() + now.sum())
    starts, expected = [0], 0.0
    for index, count in enumerate((then + now)[:-1]):
        expected += count * smaller
        if expected >= _MIN_EXPECTED:
            starts.append(index + 1)
            expected = 0.0
    last = (then + now)[starts[-1] :].sum() * smaller
    # the last bin has no next one: it joins the one before
    if last < _MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(then, starts), np.add.reduceat(now, starts)


def _psi(then: Floats, now: Floats) -> float:
    # half a count in each bin: an empty one would make the index infinite
    q, p = then + 0.5, now + 0.5
    q, p = q / q.sum(), p / p.sum()
    return float(((p - q) * np.log(p / q)).sum())


def _chi2(then: Floats, now: Floats) -> float:
    both = then + now
    shares = both / both.sum()
    parts = [(one - one.sum() * shares) ** 2 / (one.sum() * shares) for one in (then, now)]
    return float(np.sum(parts))


def _solve_noncentrality(statistic: float, degrees_of_freedom: int, probability: float) -> float:
    """Return the noncentrality under which `statistic` is at this probability; 0 if there is none."""
    # wide enough: at this noncentrality the probability is far below 2.5 %
    low, high = 0.0, 4 * statistic + 20.0
    if chi2_cdf(statistic, degrees_of_freedom) <= probability:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if chi2_cdf(statistic, degrees_of_freedom, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
