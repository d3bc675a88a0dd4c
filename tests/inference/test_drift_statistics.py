"""PSI, its interval and its test, against scipy and against many samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tamis.inference.drift_statistics import chi2_cdf, compare_histograms, compare_shares

COUNTS = st.lists(st.integers(0, 3_000), min_size=2, max_size=40)


@pytest.mark.parametrize("freedom", [1, 2, 5, 19, 23])
@pytest.mark.parametrize("noncentrality", [0.0, 1.0, 5.0, 30.0, 500.0])
@pytest.mark.parametrize("probability", [0.025, 0.5, 0.975, 0.999])
def test_chi2_cdf_is_scipys(freedom: int, noncentrality: float, probability: float) -> None:
    of_scipy = stats.ncx2(freedom, noncentrality) if noncentrality else stats.chi2(freedom)
    # one degree of freedom, far below the mean, is the approximation's weak side; no p-value is there
    tolerance = 0.06 if freedom == 1 and not noncentrality else 0.022
    assert chi2_cdf(of_scipy.ppf(probability), freedom, noncentrality) == pytest.approx(
        probability, abs=tolerance
    )


@pytest.mark.parametrize("freedom", [1, 5, 23])
def test_small_p_value_is_scipys(freedom: int) -> None:
    assert 1 - chi2_cdf(stats.chi2(freedom).ppf(0.999), freedom) == pytest.approx(0.001, rel=0.25)


@given(COUNTS, st.integers(1, 50))
def test_the_same_shares_do_not_change(counts: list[int], times: int) -> None:
    then = np.array(counts)
    found = compare_histograms(then, then * times)
    if found is not None:
        assert found.psi < 0.02 and found.low == 0 and found.p_value > 0.5


@given(
    st.integers(2, 30).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 900), min_size=n, max_size=n)] * 2)
    )
)
def test_any_two_histograms_give_an_interval(pair: tuple[list[int], list[int]]) -> None:
    then, now = map(np.array, pair)
    for is_ordered in (True, False):
        found = compare_histograms(then, now, is_ordered=is_ordered)
        if found is not None:
            assert 0 <= found.low <= found.high and found.psi >= 0 and 0 <= found.p_value <= 1
            assert np.isfinite([found.psi, found.low, found.high]).all()
            assert found.psi <= found.high + 1e-9


@pytest.mark.parametrize(
    "counts", [([0, 0], [5, 5]), ([5, 5], [0, 0]), ([3, 1], [1, 2]), ([900, 0], [900, 0])]
)
def test_too_few_counts_are_not_compared(counts: tuple[list[int], list[int]]) -> None:
    assert compare_histograms(np.array(counts[0]), np.array(counts[1])) is None


SHIFTED = np.array([0.23, 0.77]), np.array([0.13, 0.87])
TILTED = np.linspace(0.5, 1.5, 20) / 20, np.full(20, 0.05)


@pytest.mark.parametrize(("now", "then"), [SHIFTED, TILTED], ids=["a share", "a histogram"])
def test_interval_covers_the_true_psi(now: np.ndarray, then: np.ndarray) -> None:
    true, rng, covered = float(((now - then) * np.log(now / then)).sum()), np.random.default_rng(5), 0
    for _ in range(400):
        found = compare_histograms(rng.multinomial(2_000, then), rng.multinomial(1_000, now))
        assert found is not None
        covered += found.low <= true <= found.high
    assert covered / 400 > 0.9


@pytest.mark.parametrize("bins", [2, 20])
def test_one_distribution_is_rarely_called_changed(bins: int) -> None:
    rng, alarms = np.random.default_rng(6), 0
    shares = np.exp(-np.arange(bins) / 2)
    for _ in range(1_000):
        then, now = (rng.multinomial(size, shares / shares.sum()) for size in (500, 1_000))
        found = compare_histograms(then, now)
        alarms += found is not None and found.p_value < 0.001
    assert alarms <= 5


def test_share_that_moved_has_an_interval_without_zero() -> None:
    ham, spam = compare_shares(("ham", "spam"), np.array([1_740, 260]), np.array([770, 230]))
    assert spam.difference == pytest.approx(0.10) and 0.06 < spam.low < 0.10 < spam.high < 0.14
    assert ham.difference == pytest.approx(-spam.difference) and ham.high == pytest.approx(-spam.low)
