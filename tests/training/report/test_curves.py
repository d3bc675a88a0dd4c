"""The points of the curves, against scikit-learn where it draws the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from tamis.training.report.charts import by_length, precision_recall, reliability, roc, thresholds


def rows(n: int, seed: int, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positive = np.r_[True, False, random.random(n) < 0.4]
    return np.round(np.clip(random.normal(0.3 + 0.4 * positive, 0.2), 0, 1) * steps) / steps, positive


@given(st.integers(2, 200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_the_area_under_the_roc_curve_is_scikit_learns(n: int, seed: int):
    scores, positive = rows(n, seed, steps=3)
    points = roc(scores, positive)
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    staircase = auc(*np.transpose(roc(*rows(n, seed, steps=10**6))))
    assert staircase == pytest.approx(roc_auc_score(positive, rows(n, seed, steps=10**6)[0]))


@given(st.integers(2, 200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_precision_and_recall_are_scikit_learns(n: int, seed: int):
    scores, positive = rows(n, seed)
    precision, recall, _ = precision_recall_curve(positive, scores)
    known = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    for r, p in precision_recall(scores, positive):
        assert (round(r, 9), round(p, 9)) in known or r == 0


def test_long_curves_are_thinned_and_keep_their_ends():
    random = np.random.default_rng(1)
    points = precision_recall(random.random(5000), random.random(5000) < 0.5)
    assert len(points) <= 300
    assert points[-1][0] == 1


def test_thresholds_flag_what_reaches_them():
    lines = thresholds(np.array([0.2, 0.5, 0.9]), np.array([False, True, True]))
    assert lines["recall"][50] == (0.5, 1.0)
    assert lines["recall"][51] == (0.51, 0.5)
    assert lines["false-positive rate"][20] == (0.2, 1.0)
    assert lines["precision"][-1][0] == 0.9, "nothing is flagged above"


def test_bins_count_what_came_true():
    (low, high) = reliability(np.array([0.11, 0.13, 0.95, 0.97]), np.array([False, True, True, True]))
    assert (low.name, low.rows, low.share.value, high.share.value) == ("0.1–0.2", 2, 0.5, 1.0)
    assert low.middle == pytest.approx(0.12)


def test_lengths_are_binned_without_gaps():
    lengths = np.array([0, 20, 21, 40, 41, 320, 321, 9999])
    bins = by_length(lengths, lengths < 300)
    assert sum(one.rows for one in bins) == 8
    assert [one.name for one in bins] == ["0–20", "21–40", "41–80", "161–320", "over 320"]


def test_curves_exist_when_one_label_is_absent():
    assert roc(np.array([0.1, 0.9]), np.array([True, True]))[-1] == (0, 1)
    assert precision_recall(np.array([0.1, 0.9]), np.array([False, False])) == [(0.0, 1.0)]
