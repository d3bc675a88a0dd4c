"""Evaluations: figures with intervals, per class, per source and at the operating point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.artifact import OperatingPoint
from tamis.errors import DataError
from tamis.training.evaluation import cap_verdict
from tamis.training.evaluator import evaluate
from tamis.training.metrics import Estimate
from tamis.types import Dataset

POINT = OperatingPoint(
    positive="spam",
    threshold=0.8,
    max_false_positive_rate=0.01,
    expected_recall=0.9,
    expected_false_positive_rate=0.01,
    chosen_on="here",
)


def binary(n: int = 400, *, quality: float = 1.5, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    is_spam = rng.random(n) < 0.3
    spam = 1 / (1 + np.exp(-rng.normal(np.where(is_spam, quality, -quality), 1)))
    return np.stack([1 - spam, spam], axis=1), ["spam" if yes else "ham" for yes in is_spam]


def rows_of(labels: Sequence[str], sources: Sequence[str] | None = None) -> Dataset:
    """Return rows of these labels; what they say does not matter."""
    return Dataset([""] * len(labels), list(labels), list(range(len(labels))), sources=sources)


def binary_rows(n: int = 400) -> tuple[np.ndarray, Dataset]:
    probabilities, labels = binary(n)
    return probabilities, rows_of(labels)


def test_every_interval_holds_its_value():
    evaluation = evaluate(*binary_rows(), ["ham", "spam"], operating_point=POINT)
    estimates = [value for value in _leaves(evaluation) if isinstance(value, Estimate)]
    assert len(estimates) > 12
    for estimate in estimates:
        assert estimate.low <= estimate.value <= estimate.high


def test_intervals_narrow_when_there_are_more_rows():
    few, many = (evaluate(*binary_rows(n), ["ham", "spam"]) for n in (100, 4000))
    for figure in ("accuracy", "matthews", "roc_auc"):
        wide, narrow = getattr(few, figure), getattr(many, figure)
        assert narrow.high - narrow.low < wide.high - wide.low


def test_the_operating_point_counts_what_reaches_its_threshold():
    spam = np.array([0.95, 0.81, 0.5, 0.9, 0.1, 0.2])
    labels = ["spam", "spam", "spam", "ham", "ham", "ham"]
    figures = evaluate(
        np.stack([1 - spam, spam], axis=1), rows_of(labels), ["ham", "spam"], operating_point=POINT
    ).operating_point
    assert figures is not None
    assert figures.recall.value == pytest.approx(2 / 3)
    assert figures.precision.value == pytest.approx(2 / 3)
    assert figures.false_positive_rate.value == pytest.approx(1 / 3)
    assert figures.recall_at_cap == pytest.approx(1 / 3), "only 0.95 is above the highest ham, 0.9"


def test_sources_are_measured_apart():
    probabilities, labels = binary()
    sources = ["phone" if i % 2 else "web" for i in range(400)]
    evaluation = evaluate(probabilities, rows_of(labels, sources), ["ham", "spam"])
    web = evaluate(probabilities[::2], rows_of(labels[::2]), ["ham", "spam"])
    assert list(evaluation.sources) == ["phone", "web"]
    assert evaluation.sources["web"].accuracy == web.accuracy
    assert evaluation.sources["web"].rows == 200


def test_one_source_is_not_repeated():
    assert evaluate(binary()[0], rows_of(binary()[1], ["web"] * 400), ["ham", "spam"]).sources == {}


def test_more_than_two_classes_are_averaged():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 300)
    logits = rng.normal(0, 1, (300, 3))
    logits[np.arange(300), true] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    evaluation = evaluate(
        probabilities, rows_of([f"class {k}" for k in true]), ["class 0", "class 1", "class 2"]
    )
    assert 0.85 < evaluation.roc_auc.value < 0.99
    assert np.sum(evaluation.confusion) == 300
    assert evaluation.operating_point is None


def test_the_same_figures_come_out_twice():
    first, second = (evaluate(*binary_rows(), ["ham", "spam"], operating_point=POINT) for _ in range(2))
    assert first == second


def test_an_evaluation_becomes_json():
    encoded = msgspec.json.encode(evaluate(*binary_rows(), ["ham", "spam"], operating_point=POINT))
    assert msgspec.json.decode(encoded)["accuracy"].keys() == {"value", "low", "high"}


def test_a_label_that_the_model_does_not_know_is_named():
    probabilities, labels = binary(3)
    with pytest.raises(
        DataError, match=r"does not have: 'eggs' \(1 row\), 'jam' \(2 rows\); it has ham, spam"
    ):
        evaluate(probabilities, rows_of([*labels[:2], "eggs", "jam", "jam"]), ["ham", "spam"])


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no row"):
        evaluate(np.zeros((0, 2)), rows_of([]), ["ham", "spam"])


def test_what_is_undefined_is_null_and_never_0():
    evaluation = evaluate(
        np.array([[0.9, 0.1]] * 4), rows_of(["ham"] * 4), ["ham", "spam"], operating_point=POINT
    )
    spam, point = evaluation.classes["spam"], evaluation.operating_point
    assert (spam.precision, spam.recall, spam.f1, spam.support) == (None, None, None, 0)
    assert (evaluation.matthews, evaluation.roc_auc, evaluation.average_precision) == (None, None, None)
    assert evaluation.macro_f1.value == evaluation.accuracy.value == 1.0
    assert point is not None and point.false_positive_rate is not None
    assert (point.recall, point.precision, point.recall_at_cap) == (None, None, None)
    assert msgspec.json.decode(msgspec.json.encode(evaluation))["roc_auc"] is None


@given(st.integers(2, 30), st.integers(1, 60), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_intervals_hold_their_metric_for_any_rows(n_classes: int, n: int, are_right: bool, seed: int):
    rng = np.random.default_rng(seed)
    classes = [f"label {k:02}" for k in range(n_classes)]
    true = rng.integers(0, n_classes, n)
    scores = rng.normal(0, 1, (n, n_classes))
    scores[np.arange(n), true] += 9 if are_right else 1
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    rows = replace(rows_of([classes[k] for k in true]), groups=[str(g) for g in rng.integers(0, n, n)])
    evaluation = evaluate(probabilities, rows, classes)
    if are_right and (probabilities.argmax(axis=1) == true).all():
        assert evaluation.macro_f1.value == 1.0
    for estimate in _leaves(evaluation):
        if isinstance(estimate, Estimate):
            assert estimate.low <= estimate.value <= estimate.high


def test_macro_f1_of_many_rare_labels_has_a_true_interval():
    """72 labels of one row each, all predicted rightly: no resample may say less than 1."""
    evaluation = evaluate(np.eye(72), rows_of([f"{k:02}" for k in range(72)]), [f"{k:02}" for k in range(72)])
    assert evaluation.macro_f1 == Estimate(1.0, 1.0, 1.0)


def test_the_cap_was_missed_by_chance_or_not():
    def verdict(false_positives: int, of: int) -> str:
        spam = np.r_[np.full(false_positives, 0.9), np.full(of - false_positives, 0.1), np.full(5, 0.95)]
        rows = rows_of(["ham"] * of + ["spam"] * 5)
        point = evaluate(
            np.stack([1 - spam, spam], axis=1), rows, ["ham", "spam"], operating_point=POINT
        ).operating_point
        assert point is not None
        return cap_verdict(point)

    assert "was kept" in verdict(1, 200)
    assert "may be chance" in verdict(3, 200) and "more than chance" not in verdict(3, 200)
    assert "more than chance explains" in verdict(30, 200) and "may be" not in verdict(30, 200)


def _leaves(value: object) -> list[object]:
    if isinstance(value, Estimate) or not hasattr(value, "__dataclass_fields__"):
        return (
            [*(leaf for item in value.values() for leaf in _leaves(item))]
            if isinstance(value, dict)
            else [value]
        )
    return [leaf for name in value.__dataclass_fields__ for leaf in _leaves(getattr(value, name))]
