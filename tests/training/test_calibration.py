"""Calibration and the choice of the operating point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.models.scorer import softmax
from tamis.training import metrics
from tamis.training.calibration import (
    choose_calibration,
    choose_operating_point,
    default_positive,
)
from tamis.training.calibration_fit import fit_calibration

CLASSES = [f"class {k}" for k in range(10)]


def rows(n: int, n_classes: int, *, scale: float, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """Return logits that are `scale` times too large for the labels drawn from them."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (n, n_classes))
    chances = softmax(honest)
    drawn = (rng.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return honest * scale, [f"class {k}" for k in drawn]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_calibration_undoes_a_wrong_scale(n_classes: int, scale: float):
    logits, labels = rows(6000, n_classes, scale=scale)
    calibration = fit_calibration(logits, labels, CLASSES[: logits.shape[1]])
    assert calibration.scale == pytest.approx(1 / scale, rel=0.1)
    assert _error(calibration(logits), labels) < 0.02 < _error(softmax(logits), labels)


def test_calibration_undoes_a_shift():
    logits, labels = rows(4000, 3, scale=1.0)
    shifted = fit_calibration(logits + [2.0, 0.0, -1.0], labels, CLASSES[:3])
    assert np.allclose(
        np.subtract(shifted.bias, np.mean(shifted.bias)),
        np.array([-2.0, 0.0, 1.0]) - np.mean([-2, 0, 1]),
        atol=0.2,
    )


def test_calibration_stays_finite_when_classes_are_separable():
    logits = np.array([[3.0, -3.0]] * 20 + [[-3.0, 3.0]] * 20)
    probabilities = fit_calibration(logits, ["a"] * 20 + ["b"] * 20, ["a", "b"])(logits)
    assert 0.9 < probabilities[0, 0] < 0.999


def alone(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_calibration_helps_kept_with_errors_before_and_after():
    logits, labels = rows(2000, 2, scale=4.0)
    chosen = choose_calibration(logits, labels, alone(2000), CLASSES[: logits.shape[1]], seed=1)
    assert chosen.kept
    assert chosen.calibration.scale == pytest.approx(0.25, rel=0.2)
    assert chosen.calibration_error_after < chosen.calibration_error_before
    assert chosen.log_loss_after < chosen.log_loss_before
    assert chosen.described()["log_loss"] == [chosen.log_loss_before, chosen.log_loss_after]


def test_a_calibration_that_does_not_help_is_rolled_back():
    """These logits are honest already; a fit on a few of them can only add noise."""
    rolled_back = 0
    for seed in range(20):
        logits, labels = rows(150, 2, scale=1.0, seed=seed)
        chosen = choose_calibration(logits, labels, alone(150), CLASSES[: logits.shape[1]], seed=1)
        if not chosen.kept:
            rolled_back += 1
            assert np.array_equal(chosen.calibration(logits), softmax(logits))
    assert rolled_back >= 15


def test_no_calibration_is_fitted_when_there_is_one_group_only():
    logits, labels = rows(200, 2, scale=5.0)
    chosen = choose_calibration(logits, labels, ["one"] * 200, CLASSES[: logits.shape[1]], seed=1)
    assert (chosen.kept, chosen.calibration.scale) == (False, 1.0)
    assert chosen.log_loss_after == chosen.log_loss_before


def test_two_groups_are_enough_to_tell():
    logits, labels = rows(200, 2, scale=5.0)
    assert choose_calibration(logits, labels, ["one", "two"] * 100, CLASSES[: logits.shape[1]], seed=1).kept


def test_calibration_keeps_the_order_of_scores():
    logits, labels = rows(500, 2, scale=2.0)
    before, after = (
        softmax(logits)[:, 1],
        fit_calibration(logits, labels, CLASSES[: logits.shape[1]])(logits)[:, 1],
    )
    assert np.array_equal(np.argsort(before), np.argsort(after))


@given(st.integers(20, 300), st.floats(0, 0.3), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_operating_point_keeps_the_cap_and_has_most_recall(n: int, cap: float, seed: int):
    rng = np.random.default_rng(seed)
    labels = np.array(["ham", "spam"])[np.r_[0, 1, rng.integers(0, 2, n)]]
    spam = rng.integers(0, 30, n + 2) / 30
    point = choose_operating_point(
        np.stack([1 - spam, spam], axis=1), labels.tolist(), positive="spam", max_false_positive_rate=cap
    )
    ham = spam[labels == "ham"]
    assert (ham >= point.threshold).mean() == point.expected_false_positive_rate <= cap
    lower = [value for value in np.unique(spam) if value < point.threshold]
    if lower:
        assert (ham >= lower[-1]).mean() > cap, "a lower threshold would have broken the cap"


def test_nothing_is_flagged_when_the_highest_score_is_a_negative():
    point = choose_operating_point(
        np.array([[0.1, 0.9], [0.5, 0.5]]), ["ham", "spam"], positive="spam", max_false_positive_rate=0.0
    )
    assert (point.expected_recall, point.expected_false_positive_rate) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "positive"), [(["ham", "ham", "spam"], "spam"), (["no", "yes"], "yes"), (["b", "a", "b"], "a")]
)
def test_the_rarer_label_is_the_positive_one(labels: list[str], positive: str):
    assert default_positive(labels) == positive


def _error(probabilities: np.ndarray, labels: list[str]) -> float:
    correct = probabilities.argmax(axis=1) == np.array([int(label[-1]) for label in labels])
    ones = np.ones((1, len(labels)))
    return float(metrics.calibration_error(ones, correct, probabilities.max(axis=1))[0])


@pytest.mark.parametrize(("n_classes", "rows_per_class"), [(4, 40), (20, 12), (72, 6), (300, 4)])
def test_calibration_is_kept_and_near_the_best_temperature(n_classes: int, rows_per_class: int):
    """Margins as a linear classifier's: small, and alike for a few labels and for hundreds."""
    logits, true = _margins(n_classes, rows_per_class, seed=1)
    others, other_true = _margins(n_classes, max(4, 2000 // n_classes), seed=2)
    classes = [f"{k:03}" for k in range(n_classes)]
    chosen = choose_calibration(logits, [classes[k] for k in true], alone(true.size), classes, seed=1)
    assert chosen.kept
    scales = np.geomspace(0.05, 100, 200)
    best = min(scales, key=lambda scale: _loss(softmax(scale * others), other_true))
    best_error = _top_error(softmax(best * others), other_true)
    assert _top_error(chosen.calibration(others), other_true) <= best_error + 0.05


@pytest.mark.parametrize("n_classes", [2, 20, 300])
def test_smoothing_moves_no_more_mass_when_there_are_more_labels(n_classes: int):
    """Twenty times as many labels as texts would need, all told apart: nobody may become unsure of them."""
    true = np.repeat(np.arange(n_classes), 3)
    logits = np.where(np.arange(n_classes) == true[:, None], 1.0, -1.0)
    classes = [f"{k:03}" for k in range(n_classes)]
    probabilities = fit_calibration(logits, [classes[k] for k in true], classes)(logits)
    assert probabilities.max(axis=1).min() >= (true.size + 1) / (true.size + 2) - 0.02


def test_labels_that_were_never_held_out_share_the_calibration():
    logits, labels = rows(600, 4, scale=4.0)
    without = [row for row, label in enumerate(labels) if label != "class 3"]
    calibration = fit_calibration(logits[without], [labels[row] for row in without], CLASSES[:4])
    assert calibration.bias[3] == 0.0
    assert calibration.scale == pytest.approx(0.25, rel=0.3)


def test_rows_without_a_prediction_are_left_out():
    logits, labels = rows(400, 2, scale=4.0)
    padded = np.concatenate([logits, np.full((30, 2), np.nan)])
    more = choose_calibration(padded, labels + ["class 0"] * 30, alone(430), CLASSES[:2], seed=1)
    assert more == choose_calibration(logits, labels, alone(400), CLASSES[:2], seed=1)


def test_there_is_no_calibration_without_any_prediction():
    chosen = choose_calibration(np.full((4, 2), np.nan), ["a", "a", "b", "b"], alone(4), ["a", "b"], seed=1)
    assert (chosen.kept, chosen.calibration_error_before, chosen.log_loss_after) == (False, None, None)


def _margins(n_classes: int, rows_per_class: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(n_classes), rows_per_class)
    logits = rng.normal(-1, 0.15, (true.size, n_classes))
    logits[np.arange(true.size), true] += np.where(
        rng.random(true.size) < 0.8, rng.normal(0.9, 0.3, true.size), 0
    )
    return logits, true


def _loss(probabilities: np.ndarray, true: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(true.size), true] + 1e-15).mean())


def _top_error(probabilities: np.ndarray, true: np.ndarray) -> float:
    correct = probabilities.argmax(axis=1) == true
    return float(metrics.calibration_error(np.ones((1, true.size)), correct, probabilities.max(axis=1))[0])
