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
    ranking = metrics.Ranking.of_rows(weights, positive, scores)
    areas, precisions = ranking.roc_auc(), ranking.average_precision()
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
    margins = metrics.Margins.of_rows(weights, true, predicted, n_classes)
    assert margins.hits.sum() / margins.present.sum() == pytest.approx(
        reference.accuracy_score(true, predicted, sample_weight=weights[0])
    )
    for trials, theirs in zip((margins.predicted, margins.present), figures, strict=False):
        for hits, of, expected in zip(margins.hits[0], trials[0], theirs, strict=True):
            ours = metrics.proportion(hits, of)
            assert (ours.value if ours else 0) == pytest.approx(expected), (
                "undefined is None here and 0 there"
            )
    assert np.allclose(np.nan_to_num(margins.f1()[0]), figures[2]), "undefined is NaN here and 0 there"
    assert margins.matthews()[0] == pytest.approx(
        reference.matthews_corrcoef(true, predicted, sample_weight=weights[0]), abs=1e-12
    )


def test_matthews_is_zero_when_one_class_is_always_predicted():
    margins = metrics.Margins.of_rows(np.ones((1, 4)), np.array([0, 1, 1, 0]), np.zeros(4, int), 2)
    assert margins.matthews()[0] == 0


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(1)
    true, spam = rng.integers(0, 2, 50), rng.random(50)
    of_label = np.where(true == 1, spam, 1 - spam)
    assert metrics.log_loss(np.ones((1, 50)), of_label)[0] == pytest.approx(reference.log_loss(true, spam))


def test_calibration_error_gap_between_confidence_and_accuracy():
    confidence = np.repeat([0.95, 0.65], [100, 100])
    correct = np.r_[np.arange(100) < 85, np.arange(100) < 70]  # gaps of 0.10 and 0.05
    assert metrics.calibration_error(np.ones((1, 200)), correct, confidence)[0] == pytest.approx(0.075)


def test_resampling_draws_as_many_rows_of_each_label():
    labels = np.repeat([0, 1], [40, 10])
    weights = metrics.Resampler(labels).weights(30, seed=1)
    assert weights.shape == (30, 50)
    assert (weights[:, :40].sum(axis=1) == 40).all() and (weights[:, 40:].sum(axis=1) == 10).all()
    assert math.isclose((weights[:, :40] == 0).mean(), math.exp(-1), abs_tol=0.05)
    assert np.array_equal(weights, metrics.Resampler(labels).weights(30, seed=1))


def test_resampling_draws_clusters_whole():
    groups = np.arange(60) // 3 + 7
    weights = metrics.Resampler(np.zeros(60, np.intp), groups).weights(20, seed=1)
    assert (weights.reshape(20, 20, 3) == weights[:, ::3, None]).all()
    assert (weights.sum(axis=1) == 60).all()


def test_resampling_draws_rare_labels_together():
    weights = metrics.Resampler(np.arange(40)).weights(50, seed=1)
    assert (weights.sum(axis=1) == 40).all()
    assert (weights == 0).any(), "drawn one by one they would all be there, every time"


@given(st.integers(1, 60), st.integers(1, 8), st.integers(2, 20), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_blocks_leave_out_every_row_once(n: int, n_labels: int, blocks: int, seed: int):
    labels = np.random.default_rng(seed).integers(0, n_labels, n)
    kept = metrics.Resampler(labels).without_each_block(blocks, seed=1)
    assert ((kept == 0).sum(axis=0) == 1).all()


@given(st.integers(2, 6), st.integers(1, 50), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_margins_of_rows_are_those_of_the_matrix(n_classes: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, n_classes, (2, n))
    weights = rng.integers(0, 4, (3, n)).astype(float)
    margins = metrics.Margins.of_rows(weights, true, predicted, n_classes)
    matrix = metrics.confusion(weights, true, predicted, n_classes)
    assert np.array_equal(margins.hits, np.diagonal(matrix, axis1=1, axis2=2))
    assert np.array_equal(margins.predicted, matrix.sum(axis=1))
    assert np.array_equal(margins.present, matrix.sum(axis=2))


def test_metrics_are_undefined_without_what_they_compare():
    ones, nothing = np.ones((1, 3)), np.zeros(3, np.bool_)
    scores = np.array([0.1, 0.2, 0.3])
    assert np.isnan(metrics.Ranking.of_rows(ones, nothing, scores).roc_auc()[0])
    assert np.isnan(metrics.Ranking.of_rows(ones, ~nothing, scores).roc_auc()[0])
    assert np.isnan(metrics.Ranking.of_rows(ones, nothing, scores).average_precision()[0])
    margins = metrics.Margins.of_rows(ones, np.zeros(3, int), np.zeros(3, int), 2)
    assert np.isnan(margins.matthews()[0])
    assert metrics.proportion(margins.hits[0, 1], margins.predicted[0, 1]) is None
    assert metrics.proportion(margins.hits[0, 1], margins.present[0, 1]) is None
    assert np.isnan(margins.f1()[0, 1])


def test_macro_f1_is_the_mean_over_labels_that_are_there():
    true, predicted = np.array([0, 1, 1]), np.array([0, 1, 2])
    margins = metrics.Margins.of_rows(np.array([[4.0, 2, 2]]), true, predicted, 3)
    assert margins.macro_f1()[0] == pytest.approx((1 + 2 / 3) / 2)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_f1_of_counts_equals_f1_and_its_interval_holds_it(hits: int, missed: int, false: int):
    found = metrics.f1_of_counts(hits, hits + false, hits + missed)
    if hits + missed + false == 0:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(2 * hits / (2 * hits + missed + false))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high, "no number of rows is certain"
