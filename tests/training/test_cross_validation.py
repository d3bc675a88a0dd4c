"""Cross-validation by two protocols: groups whole against twins and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tamis.training.cross_validation import cross_validate, cross_validate_file
from tamis.training.fit import TrainSettings
from tamis.training.prepare import PrepareSettings
from tamis.types import Dataset
from tests.support.samples import messages, write_csv

QUICK = TrainSettings(folds=2, overrides={"bits": "14"})


def twins() -> Dataset:
    """Pairs of one text each; the labels of half of them can be learned only by seeing the twin."""
    random = np.random.default_rng(1)
    words = ["".join(random.choice(list("abcdefghij"), 8)) for _ in range(120)]
    labels = [str(label) for label in random.integers(0, 2, 120)]
    clue = [f" clue{label}" if i % 2 else "" for i, label in enumerate(labels)]
    return Dataset(
        texts=[f"{word}{said}" for word, said in zip(words, clue, strict=True) for _ in "12"],
        labels=[label for label in labels for _ in "12"],
        rows=list(range(240)),
        groups=[str(i // 2) for i in range(240)],
    )


def test_twins_flatter_the_random_protocol_and_not_grouped_one():
    settings = replace(QUICK, overrides={"shapes": "false"})
    grouped, random = (
        cross_validate(twins(), settings, protocol=protocol, folds=3, repeats=1)
        for protocol in ("grouped", "random")
    )
    assert grouped.accuracy.value < 0.82 < 0.88 < random.accuracy.value
    assert (grouped.rows, grouped.tested) == (240, 120), "one text of each group is tested"
    assert (random.rows, random.tested) == (240, 240)


def test_both_protocols_are_measured_on_a_file_with_intervals(tmp_path: Path):
    data, seen = write_csv(messages(200), tmp_path / "messages.csv"), []
    grouped, random = cross_validate_file(
        data,
        QUICK,
        PrepareSettings(),
        folds=2,
        repeats=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (grouped.protocol, random.protocol) == ("grouped", "random")
    assert len(grouped.accuracies) == 4
    for figures in (grouped, random):
        for estimate in (figures.accuracy, figures.matthews, figures.macro_f1, figures.recall):
            assert estimate is not None
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert (seen[0], seen[-1]) == ((0, 8), (8, 8))


def test_the_figure_is_mean_of_folds_when_every_row_is_tested():
    figures = cross_validate(messages(200), QUICK, protocol="random", folds=4, repeats=2)
    assert figures.accuracy.value == pytest.approx(np.mean(figures.accuracies))


def test_the_files_own_groups_are_left_out_one_by_one():
    """One fold a group; every text is tested but the later ones of near duplicates."""
    data = replace(messages(200), groups=[f"channel {i // 50}" for i in range(200)])
    figures = cross_validate(
        data, TrainSettings(overrides={"bits": "14"}), protocol="grouped", folds=4, repeats=1
    )
    assert len(figures.accuracies) == 4
    assert 100 < figures.tested <= 200


def test_more_than_two_labels_have_no_operating_point():
    data = messages(240, labels=("ham", "spam", "question"))
    figures = cross_validate(data, QUICK, protocol="random", folds=2, repeats=1)
    assert (figures.recall, figures.false_positive_rate) == (None, None)
    assert figures.accuracy.value > 0.8


def test_a_label_with_too_few_texts_is_not_measured():
    data = messages(100)
    rare = replace(data, labels=["rare" if i == 0 else label for i, label in enumerate(data.labels)])
    figures = cross_validate(rare, QUICK, protocol="grouped", folds=3, repeats=1)
    assert figures.unmeasured == {"rare": 1}
    assert figures.accuracy.value > 0.8


def test_the_same_figures_come_out_twice():
    first, second = (
        cross_validate(messages(120), QUICK, protocol="grouped", folds=2, repeats=1) for _ in range(2)
    )
    assert first == second
