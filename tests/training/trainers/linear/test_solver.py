"""The compiled solver weighs features as numpy does and solves as well as scikit-learn."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.models.linear.features import FeatureSettings
from tamis.native import is_compiled
from tamis.training.trainers.linear.count_table import count_texts
from tamis.training.trainers.linear.solver import (
    Problem,
    scaled_matrix,
    solve,
    solve_with_sklearn,
    weigh_features,
    weigh_features_in_numpy,
)
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.samples import messages

ROOT = Path(__file__).parents[4]
compiled = pytest.mark.skipif(not is_compiled(), reason="installed without Rust: nothing is compiled")
LABELS = ("ham", "spam", "question")


def problem(texts: list[str], labels: np.ndarray, **changes: object) -> Problem:
    table = count_texts(texts, FeatureSettings(bits=14, format=2)).table
    n_labels = int(labels.max()) + 1
    columns = 1 if n_labels == 2 else n_labels
    made = Problem(
        table=table,
        rows=np.arange(len(texts), dtype=np.uint32),
        labels=labels.astype(np.uint32),
        n_labels=n_labels,
        min_documents=1,
        log_ratios=True,
        block_weights=(1.0, 0.75, 0.2),
        costs=np.ones((columns, 2)),
        seed=3,
    )
    return dataclasses.replace(made, **changes)


def message_problem(n: int, labels: tuple[str, ...], **changes: object) -> Problem:
    data = messages(n, labels=labels)
    return problem(list(data.texts), np.searchsorted(sorted(labels), data.labels), **changes)


def objective(made: Problem, weights: np.ndarray, intercept: np.ndarray, kept: np.ndarray) -> float:
    """Return the sum over columns of ½ |w|² + Σ cost · max(0, 1 - margin)²."""
    margins = scaled_matrix(made, kept) @ weights + intercept
    positive = np.arange(1, 2) if len(made.costs) == 1 else np.arange(made.n_labels)
    signs = np.where(made.labels[:, None] == positive, 1, -1)
    costs = np.where(signs == 1, made.costs[:, 0], made.costs[:, 1])
    losses = costs * np.maximum(0, 1 - signs * margins) ** 2
    return float(0.5 * (weights**2).sum() + 0.5 * (intercept**2).sum() + losses.sum())


@compiled
@given(
    st.lists(st.tuples(st.text("ab C1", max_size=12), st.integers(0, 4)), min_size=2, max_size=30),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_feature_weights_are_those_of_numpy(rows: list[tuple[str, int]], min_documents: int):
    labels = np.unique([label for _, label in rows], return_inverse=True)[1]
    if labels.max() == 0:
        labels[0] = 1
    made = problem([text for text, _ in rows], labels, min_documents=min_documents)
    made = dataclasses.replace(made, rows=made.rows[: len(rows) - 1], labels=made.labels[: len(rows) - 1])
    found, expected = weigh_features(made), weigh_features_in_numpy(made)
    assert np.array_equal(found.documents, expected.documents)
    assert np.allclose(found.weights, expected.weights, rtol=1e-12)


def test_a_feature_of_one_label_weighs_more_than_one_of_all():
    texts = [f"common {'rare' if i % 4 == 0 else 'other'} word" for i in range(80)]
    made = problem(texts, np.arange(80) % 4)
    weights = weigh_features(made)
    half = weights.documents == 20
    assert weights.weights[half].min() > 2 * weights.weights[weights.documents == 80].max()


@compiled
@pytest.mark.parametrize("labels", [("ham", "spam"), LABELS])
@pytest.mark.parametrize("own_cost", [1.0, 5.0])
def test_the_solution_is_within_a_percent_of_the_best(labels: tuple[str, ...], own_cost: float):
    made = message_problem(150, labels)
    costs = made.costs.copy()
    costs[0, 0] = own_cost
    made = dataclasses.replace(made, costs=costs)
    found = solve(made)
    kept = found.feature_weights
    best = objective(made, *solve_with_sklearn(made, kept), kept)
    blocks = np.asarray(made.block_weights)[made.table.blocks][:, None]
    assert objective(made, found.weights / blocks, found.intercept, kept) <= 1.01 * best


@compiled
def test_twenty_labels_are_solved_in_panels_of_sixteen_and_four():
    rng = random.Random(5)
    labels = np.arange(400) % 20
    texts = [f"topic{label} {rng.choice('abcdef')} shared text {rng.randrange(9)}" for label in labels]
    made = problem(texts, labels)
    found = solve(made)
    kept = found.feature_weights
    blocks = np.asarray(made.block_weights)[made.table.blocks][:, None]
    best = objective(made, *solve_with_sklearn(made, kept), kept)
    assert objective(made, found.weights / blocks, found.intercept, kept) <= 1.01 * best


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a processor")
def test_the_solution_is_the_same_bits_on_one_processor():
    program = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tests.training.trainers.linear.test_solver import twenty_labels\n"
        "sys.stdout.buffer.write(twenty_labels())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT)
    assert run.stdout == twenty_labels()


def twenty_labels() -> bytes:
    """Return the bytes of a model of twenty labels, made by all processors of the process."""
    labels = [f"label {i % 20}" for i in range(300)]
    texts = [f"{label} number {i * i % 37}" for i, label in enumerate(labels)]
    return LinearTrainer(bits=12).fit(texts, labels).weights_.to_bytes()


def test_weights_keep_the_precision_of_the_file():
    data = messages(120, labels=LABELS)
    weights = LinearTrainer(bits=12).fit(data.texts, data.labels).weights_
    for numbers in (weights.idf, weights.weights):
        assert np.array_equal(numbers, numbers.astype(np.float16).astype(np.float32))


def test_half_of_the_features_are_kept():
    data = messages(120)
    sizes = [
        LinearTrainer(keep=keep).fit(data.texts, data.labels).weights_.features.size for keep in (1.0, 0.5)
    ]
    assert sizes[1] == round(sizes[0] / 2)


def test_ideographs_are_words_of_their_own():
    labels = ["good", "bad"] * 30
    texts = [
        ("很好喝的茶" if label == "good" else "难喝的茶水") * (1 + i % 3) for i, label in enumerate(labels)
    ]
    model = LinearTrainer(ngram_weight=0.0, shape_weight=0.0).fit(texts, labels)
    assert [model.classes_[k] for k in model.logits(["我好", "真难"]).argmax(axis=1)] == ["good", "bad"]
