"""The counts of drift in their file: windows, several processes, damaged files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.artifact.profile import training_profile
from tamis.inference.drift_sketch import DriftSketch, SketchCells, WindowCounts, cells_of


def made_cells(n: int, *, label: int = 0, seed: int = 1, measured: bool = True) -> SketchCells:
    rng = np.random.default_rng(seed)
    unknown = rng.random(n) if measured else np.full(n, np.nan)
    return cells_of(np.full(n, label), rng.random(n), rng.integers(0, 9_000, n), unknown)


def counts(sketch: DriftSketch) -> list[tuple[int, list[int]]]:
    return [(one.texts, one.labels.tolist()) for one in sketch.windows()]


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.integers(1, 333), max_size=12), window=st.integers(1, 400))
def test_windows_hold_the_last_texts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int], window: int
) -> None:
    sketch = DriftSketch(tmp_path_factory.mktemp("drift") / "a.counts", 2, window=window)
    for number, n in enumerate(parts):
        sketch.add(made_cells(n, seed=number), 1_000 + number)
    sketch_counts = sketch.windows()
    sketch.close()
    for found, size in zip(sketch_counts, (max(1, window // 10), window), strict=True):
        assert min(sum(parts), 9 * size) <= found.texts <= 10 * size or found.texts == sum(parts)
        assert found.confidence.sum() == found.length.sum() == found.unknown.sum()


def test_counts_are_those_of_the_training_profile(tmp_path: Path) -> None:
    """The same texts give the same histograms by both ways."""
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet((1, 1, 1), 400)
    texts, unknown = ["x" * length for length in rng.integers(0, 500, 400)], rng.random(400)
    profile = training_profile(("a", "b", "c"), texts, probabilities, learned={}, unknown=unknown)
    sketch = DriftSketch(tmp_path / "a.counts", 3, window=1_000)
    lengths = np.array([*map(len, texts)])
    sketch.add(cells_of(probabilities.argmax(axis=1), probabilities.max(axis=1), lengths, unknown), 1)
    found = sketch.windows()[1]
    assert found.labels.tolist() == [*profile.predicted.values()]
    assert profile.unknown is not None
    assert found.confidence.tolist() == [*profile.confidence.values()]
    assert found.length.tolist() == [*profile.length.values()]
    assert found.unknown.tolist() == [*profile.unknown.values()]


def test_sketches_of_one_file_count_together_and_over_restarts(tmp_path: Path) -> None:
    one, other = (DriftSketch(tmp_path / "d" / "a.counts", 2, window=100) for _ in range(2))
    one.add(made_cells(30), 7)
    other.add(made_cells(12, label=1, measured=False), 9)
    assert counts(one) == counts(other) == [(42, [30, 12])] * 2
    one.close()
    other.close()
    again = DriftSketch(tmp_path / "d" / "a.counts", 2, window=100)
    found = again.windows()[0]
    assert (found.texts, found.since, found.until, found.unknown.sum()) == (42, 7, 9, 30)
    assert again.swap_flags(5) == 0 and again.swap_flags(5) == 5


def test_file_of_two_labels_has_a_fixed_size(tmp_path: Path) -> None:
    sketch = DriftSketch(tmp_path / "a.counts", 2, window=100)
    for number in range(30):
        sketch.add(made_cells(100, seed=number), number + 1)
    assert (tmp_path / "a.counts").stat().st_size < 12_000


DAMAGES = {
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut in a block": lambda path: os.truncate(path, 300),
    "other bytes": lambda path: path.write_bytes(os.urandom(4_000)),
    "another shape": lambda path: DriftSketch(path, 5, window=70).windows(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_begins_anew_where_it_is_damaged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.counts"
    sketch = DriftSketch(path, 2, window=100)
    sketch.add(made_cells(40), 1)
    DAMAGES[damage](path)
    before = sketch.windows()[0].texts
    sketch.add(made_cells(10), 2)
    assert before <= 40 and sketch.windows()[0].texts == before + 10


def test_without_a_usable_file_counts_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "drift").write_text("a file, no folder")
    sketch = DriftSketch(tmp_path / "drift" / "a.counts", 2, window=100)
    sketch.add(made_cells(40), 1)
    assert counts(sketch) == [(40, [40, 0])] * 2
    assert [record.message for record in caplog.records] == ["drift counted in memory"]


def test_empty_window_has_no_texts(tmp_path: Path) -> None:
    found: WindowCounts = DriftSketch(tmp_path / "a.counts", 2, window=100).windows()[0]
    assert (found.texts, found.since, found.until) == (0, 0, 0)
