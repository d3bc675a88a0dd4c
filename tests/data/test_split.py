from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.split import (
    assign_folds,
    grouped_parts,
    labels_in_one_group,
    random_split,
)
from tamis.errors import DataError

TWO_PARTS = [0.67, 0.33]
FIVE_FOLDS = [0.2] * 5


def _missing_classes(parts, labels):
    """Return (part, class) wherever a part has no example of a class."""
    present = set(zip(parts.tolist(), labels, strict=True))
    every = ((part, label) for part in range(int(parts.max()) + 1) for label in sorted(set(labels)))
    return [missing for missing in every if missing not in present]


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 500), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_random_split_gives_rows_of_scikit_learn_in_their_order(n, test_size, seed):
    model_selection = pytest.importorskip("sklearn.model_selection")
    if not 0 < np.ceil(n * test_size) < n:
        return
    expected = model_selection.train_test_split(np.arange(n), test_size=test_size, random_state=seed)
    train, test = random_split(n, test_size=test_size, seed=seed)
    assert (train.tolist(), test.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_random_split_has_known_sizes_when_mixed_file_is_split():
    train, test = random_split(7528, test_size=0.33, seed=42)
    assert (train.size, test.size) == (5043, 2485)


@pytest.mark.parametrize(("n", "test_size"), [(0, 0.33), (1, 0.33), (10, 0.0), (10, 1.0), (2, 0.9)])
def test_random_split_says_what_wrong_when_part_would_be_empty(n, test_size):
    with pytest.raises(DataError, match="would be empty"):
        random_split(n, test_size=test_size, seed=42)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=120),
    st.sampled_from([TWO_PARTS, FIVE_FOLDS, [0.1, 0.9]]),
    st.integers(0, 5),
)
def test_groups_stay_whole_and_repeat_for_any_mix_of_classes(examples, shares, seed):
    groups, labels = [group for group, _ in examples], [label for _, label in examples]
    try:
        parts = grouped_parts(groups, labels, shares, seed)
    except DataError:
        groups_of_classes = Counter(label for _, label in set(examples))
        assert max(groups_of_classes.values()) < len(shares) or 1 in groups_of_classes.values()
        return
    assert len(set(zip(groups, parts.tolist(), strict=True))) == len(set(groups))
    assert grouped_parts(groups, labels, shares, seed).tolist() == parts.tolist()
    assert set(parts.tolist()) == set(range(len(shares)))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=5, max_size=15), min_size=1, max_size=5),
    st.sampled_from([TWO_PARTS, FIVE_FOLDS, [0.95, 0.05]]),
)
def test_every_class_is_in_every_part_when_it_has_enough_groups(sizes_of_classes, shares):
    groups, labels = [], []
    for label, sizes in enumerate(sizes_of_classes):
        for number, size in enumerate(sizes):
            groups += [f"{label}/{number}"] * size
            labels += [str(label)] * size
    assert _missing_classes(grouped_parts(groups, labels, shares, 42), labels) == []


@pytest.mark.parametrize("shares", [TWO_PARTS, FIVE_FOLDS])
def test_sizes_all_classes_close_shares_when_most_groups_small(shares):
    rng = np.random.default_rng(3)
    sizes = [*rng.integers(2, 40, 60).tolist(), *[1] * 3000]
    groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
    labels = [["ham", "spam", "news"][group % 7 % 3] for group in groups]
    parts = grouped_parts(groups, labels, shares, 42)
    for label, total in Counter(labels).items():
        counts = np.bincount(parts[np.array(labels) == label])
        assert counts == pytest.approx(np.array(shares) * total, abs=1.5)


def test_large_groups_go_to_all_parts_when_the_shares_differ():
    groups = np.repeat(np.arange(60), 20).tolist()
    parts = grouped_parts(groups, ["a"] * 1200, TWO_PARTS, 42)
    assert np.bincount(parts).tolist() == [800, 400]
    lone = list(range(1000, 2200))
    parts = grouped_parts(groups + lone, ["a"] * 2400, TWO_PARTS, 42)
    assert np.bincount(parts[:1200])[1] == pytest.approx(400, abs=20), (
        "templates belong into the test part too"
    )


def test_sizes_are_close_to_shares_when_there_many_small_classes():
    labels = [str(number) for number in range(100) for _ in range(5)]
    parts = grouped_parts(range(500), labels, TWO_PARTS, 42)
    assert np.bincount(parts)[1] == pytest.approx(165, abs=2)


def test_parts_differ_when_the_seed_differs():
    labels = ["ham", "spam"] * 50
    assert (
        grouped_parts(range(100), labels, TWO_PARTS, 1).tolist()
        != grouped_parts(range(100), labels, TWO_PARTS, 2).tolist()
    )


@pytest.mark.parametrize("shares", [TWO_PARTS, [0.33, 0.67]])
def test_a_class_stays_in_first_part_when_it_has_a_single_group(shares):
    groups = [*range(20), 99, 99]
    labels = [*["ham", "spam"] * 10, "rare", "rare"]
    parts = grouped_parts(groups, labels, shares, 42)
    assert parts[-2:].tolist() == [0, 0]
    assert _missing_classes(parts, labels) == [(1, "rare")]


@pytest.mark.parametrize(
    ("groups", "labels"), [([], []), ([1, 1, 1], ["a", "b", "a"]), ([1, 1, 2, 2], ["a", "a", "b", "b"])]
)
def test_grouped_parts_say_what_wrong_when_part_would_be_empty(groups, labels):
    with pytest.raises(DataError, match="too few for 2 parts"):
        grouped_parts(groups, labels, TWO_PARTS, 42)


def test_million_lone_rows_split_in_seconds_when_some_have_twins():
    n = 200_000  # a fifth of it: linear, and the suite stays quick
    groups = np.minimum(np.arange(n), np.arange(n) // 2 * 3 + 7).tolist()
    parts = grouped_parts(groups, ["ham", "spam", "ham", "ham"] * (n // 4), FIVE_FOLDS, 42)
    assert np.bincount(parts).tolist() == [n // 5] * 5


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(2, 6),
    st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_assigned_folds_never_take_a_class_out_of_training(examples, folds, seed):
    groups, labels = [group for group, _ in examples], [str(label) for _, label in examples]
    fold_of = assign_folds(groups, labels, folds, seed)
    assert fold_of.max() < folds
    for group in set(groups):
        assert len({fold_of[i] for i in range(len(groups)) if groups[i] == group}) == 1, "groups are whole"
    for fold in {*fold_of.tolist()} - {-1}:
        assert {label for label, at in zip(labels, fold_of, strict=True) if at != fold} == set(labels)
    alone = labels_in_one_group(groups, labels)
    assert all(at == -1 for label, at in zip(labels, fold_of, strict=True) if label in alone)
