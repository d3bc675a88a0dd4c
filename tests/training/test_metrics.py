"""Every figure agrees with scikit-learn's, plain and weighted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tamis.training import metrics


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights [2, rows], positives and scores with ties; both classes present with weight."""
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    positive = np.r_[True, False, rng.random(n) < 0.4]
    weights = np.stack([np.ones(n + 2), np.r_[1, 1, rng.integers(0, 4, n)]]).astype(float)
    return weights, positive, rng.integers(0, 8, n + 2) / 8


@given(scored_rows())
@settings(max_examples=100, deadline=None)
def test_ranking_figures_are_scikit_learns(rows: tuple[np.ndarray, np.ndarray, np.ndarray]):
    weights, positive, scores = rows
    areas = metrics.roc_auc(weights, positive, scores)
    precisions = metrics.average_precision(weights, positive, scores)
    for w, area, precision in zip(weights, areas, precisions, strict=True):
        assert area == pytest.approx(reference.roc_auc_score(positive, scores, sample_weight=w))
        assert precision == pytest.approx(
            reference.average_precision_score(positive, scores, sample_weight=w)
        )


@given(st.integers(2, 5), st.integers(5, 60), st.integers(0, 2**32))
@settings(max_examples=60)
def test_figures_of_the_confusion_are_scikit_learns(n_classes: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    true = np.r_[np.arange(n_classes), rng.integers(0, n_classes, n)]
    predicted = np.where(rng.random(true.size) < 0.6, true, rng.integers(0, n_classes, true.size))
    weights = rng.integers(1, 4, (1, true.size)).astype(float)
    matrix = metrics.confusion(weights, true, predicted, n_classes)
    names = list(range(n_classes))
    figures = reference.precision_recall_fscore_support(
        true, predicted, labels=names, sample_weight=weights[0], zero_division=0
    )
    assert np.allclose(matrix[0], reference.confusion_matrix(true, predicted, sample_weight=weights[0]))
    assert metrics.accuracy(matrix)[0] == pytest.approx(
        reference.accuracy_score(true, predicted, sample_weight=weights[0])
    )
    for ours, theirs in zip(metrics.precision_recall_f1(matrix), figures, strict=False):
        assert np.allclose(ours[0], theirs)
    assert metrics.matthews(matrix)[0] == pytest.approx(
        reference.matthews_corrcoef(true, predicted, sample_weight=weights[0]), abs=1e-12
    )


def test_matthews_is_zero_when_one_class_is_always_predicted():
    matrix = metrics.confusion(np.ones((1, 4)), np.array([0, 1, 1, 0]), np.zeros(4, int), 2)
    assert metrics.matthews(matrix)[0] == 0


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(1)
    true, spam = rng.integers(0, 2, 50), rng.random(50)
    of_label = np.where(true == 1, spam, 1 - spam)
    assert metrics.log_loss(np.ones((1, 50)), of_label)[0] == pytest.approx(reference.log_loss(true, spam))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.repeat([0.95, 0.65], [100, 100])
    correct = np.r_[np.arange(100) < 85, np.arange(100) < 70]  # gaps of 0.10 and 0.05
    assert metrics.calibration_error(np.ones((1, 200)), correct, confidence)[0] == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_wilson_intervals_are_the_published_ones(successes: int, trials: int, low: float, high: float):
    assert metrics.wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_says_nothing_without_trials():
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_draws_as_many_rows_as_there_are():
    weights = metrics.bootstrap_weights(50, 30, seed=1)
    assert weights.shape == (30, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert math.isclose((weights == 0).mean(), math.exp(-1), abs_tol=0.05)
    assert np.array_equal(weights, metrics.bootstrap_weights(50, 30, seed=1))
