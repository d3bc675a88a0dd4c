"""Evaluations: figures with intervals, per class, per source and at the operating point."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tamis.artifact import OperatingPoint
from tamis.errors import DataError
from tamis.training.evaluate import Estimate, evaluate

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


def test_every_interval_holds_its_value():
    evaluation = evaluate(*binary(), ["ham", "spam"], operating_point=POINT)
    estimates = [value for value in _leaves(evaluation) if isinstance(value, Estimate)]
    assert len(estimates) > 12
    for estimate in estimates:
        assert estimate.low <= estimate.value <= estimate.high


def test_intervals_narrow_when_there_are_more_rows():
    few, many = (evaluate(*binary(n), ["ham", "spam"]) for n in (100, 4000))
    for figure in ("accuracy", "matthews", "roc_auc"):
        wide, narrow = getattr(few, figure), getattr(many, figure)
        assert narrow.high - narrow.low < wide.high - wide.low


def test_the_operating_point_counts_what_reaches_its_threshold():
    spam = np.array([0.95, 0.81, 0.5, 0.9, 0.1, 0.2])
    labels = ["spam", "spam", "spam", "ham", "ham", "ham"]
    figures = evaluate(
        np.stack([1 - spam, spam], axis=1), labels, ["ham", "spam"], operating_point=POINT
    ).operating_point
    assert figures is not None
    assert figures.recall.value == pytest.approx(2 / 3)
    assert figures.precision.value == pytest.approx(2 / 3)
    assert figures.false_positive_rate.value == pytest.approx(1 / 3)
    assert figures.recall_at_cap == pytest.approx(1 / 3), "only 0.95 is above the highest ham, 0.9"


def test_sources_are_measured_apart():
    probabilities, labels = binary()
    sources = ["phone" if i % 2 else "web" for i in range(400)]
    evaluation = evaluate(probabilities, labels, ["ham", "spam"], sources=sources)
    web = evaluate(probabilities[::2], labels[::2], ["ham", "spam"])
    assert list(evaluation.sources) == ["phone", "web"]
    assert evaluation.sources["web"].accuracy == web.accuracy
    assert evaluation.sources["web"].rows == 200


def test_one_source_is_not_repeated():
    assert evaluate(*binary(), ["ham", "spam"], sources=["web"] * 400).sources == {}


def test_more_than_two_classes_are_averaged():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 300)
    logits = rng.normal(0, 1, (300, 3))
    logits[np.arange(300), true] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    evaluation = evaluate(probabilities, [f"class {k}" for k in true], ["class 0", "class 1", "class 2"])
    assert 0.85 < evaluation.roc_auc.value < 0.99
    assert np.sum(evaluation.confusion) == 300
    assert evaluation.operating_point is None


def test_the_same_figures_come_out_twice():
    first, second = (evaluate(*binary(), ["ham", "spam"], operating_point=POINT) for _ in range(2))
    assert first == second


def test_an_evaluation_becomes_json():
    encoded = msgspec.json.encode(evaluate(*binary(), ["ham", "spam"], operating_point=POINT))
    assert msgspec.json.decode(encoded)["accuracy"].keys() == {"value", "low", "high"}


def test_a_label_that_the_model_does_not_know_is_named():
    probabilities, labels = binary(3)
    with pytest.raises(DataError, match="'eggs' is none of the model's: ham, spam"):
        evaluate(probabilities, [*labels[:2], "eggs"], ["ham", "spam"])


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no row"):
        evaluate(np.zeros((0, 2)), [], ["ham", "spam"])


def test_a_class_without_rows_has_figures_of_zero():
    figures = evaluate(np.array([[0.9, 0.1]] * 4), ["ham"] * 4, ["ham", "spam"], operating_point=POINT)
    assert figures.classes["spam"].recall == Estimate(0.0, 0.0, 1.0)
    assert figures.roc_auc.value == 0.0


def _leaves(value: object) -> list[object]:
    if isinstance(value, Estimate) or not hasattr(value, "__dataclass_fields__"):
        return (
            [*(leaf for item in value.values() for leaf in _leaves(item))]
            if isinstance(value, dict)
            else [value]
        )
    return [leaf for name in value.__dataclass_fields__ for leaf in _leaves(getattr(value, name))]
