"""The confidence interval of a proportion, the same for metrics, feedback, canaries and drift."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

_NORMAL_975 = NormalDist().inv_cdf(0.975)


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson's score interval); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, spread = successes / trials, _NORMAL_975**2 / trials
    middle = share + spread / 2
    half = _NORMAL_975 * sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
