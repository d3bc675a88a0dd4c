"""--min-rows and --merge-rare: every command that divides a file drops or merges the same labels."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.artifact import open_artifact
from tamis.errors import DataError
from tamis.training.prepare import PrepareSettings, merge_rare_labels
from tamis.training.prepared_folder import read_prepared
from tamis.types import Dataset
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv

RARE = {"question": 3, "offer": 2}
LABELS = st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40)


def tamis(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = tamis_command(*arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file with 60 rows of two labels each, and a few of two others."""
    write_csv(messages(120), tmp_path / "mail.csv")
    with (tmp_path / "mail.csv").open("a") as file:
        for label, rows in RARE.items():
            file.writelines(
                f"{label},{label} number {row} about {'lamps' * row},web\n" for row in range(rows)
            )
    return tmp_path


def test_train_min_rows_drops_rarer_labels(folder: Path):
    run = tamis("train", "mail.csv", "-o", "model", "--min-rows", "4", folder=folder)
    assert run.returncode == 0, run.stderr
    manifest = open_artifact(folder / "model").manifest
    assert manifest.labels == ("ham", "spam")
    assert (manifest.data.learned_rows, manifest.data.min_rows, manifest.data.unmeasured) == (120, 4, {})


def test_train_merge_rare_gives_rarer_labels_another(folder: Path):
    options = ("--min-rows", "4", "--merge-rare", "other")
    run = tamis("train", "mail.csv", "-o", "model", *options, folder=folder)
    assert run.returncode == 0, run.stderr
    manifest = open_artifact(folder / "model").manifest
    assert manifest.labels == ("ham", "other", "spam")
    assert (manifest.data.learned_rows, manifest.data.merge_rare) == (125, "other")


def test_train_min_rows_keeps_labels_with_as_many_rows(folder: Path):
    run = tamis("train", "mail.csv", "-o", "model", "--min-rows", "3", folder=folder)
    assert run.returncode == 0, run.stderr
    assert open_artifact(folder / "model").manifest.labels == ("ham", "question", "spam")


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_prepare_merges_rare_labels_in_both_parts(folder: Path, split: str):
    options = ("--split", split, "--min-rows", "4", "--merge-rare", "ham")
    run = tamis("prepare", "mail.csv", "-o", "prepared", *options, folder=folder)
    assert run.returncode == 0, run.stderr
    prepared = read_prepared(folder / "prepared")
    assert Counter([*prepared.train.labels, *prepared.test.labels]) == {"ham": 65, "spam": 60}
    trained = tamis("train", "prepared", "-o", "model", folder=folder)
    assert trained.returncode == 0, trained.stderr
    data = open_artifact(folder / "model").manifest.data
    assert (data.min_rows, data.merge_rare) == (4, "ham")


def test_cross_validate_min_rows_drops_rarer_labels(folder: Path):
    options = ("--folds", "2", "--repeats", "1", "--min-rows", "4", "--json")
    run = tamis("cross-validate", "mail.csv", *options, folder=folder)
    assert run.returncode == 0, run.stderr
    assert not any(f'"{label}"' in run.stdout for label in RARE)
    assert json.loads(run.stdout)


def test_min_rows_beyond_all_labels_names_their_counts(folder: Path):
    run = tamis("train", "mail.csv", "-o", "model", "--min-rows", "61", folder=folder)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1 and "Traceback" not in run.stderr
    assert all(part in run.stderr for part in ("--min-rows 61", "ham", "60", "question", "3", "offer", "2"))
    assert not (folder / "model").exists()


def test_merge_rare_without_min_rows_is_a_usage_error(folder: Path):
    run = tamis("train", "mail.csv", "-o", "model", "--merge-rare", "other", folder=folder)
    assert run.returncode == 2 and "--merge-rare needs --min-rows" in run.stderr


@given(LABELS, st.integers(1, 12), st.sampled_from([None, "a", "z"]))
def test_merge_rare_labels_keeps_every_other_row(labels: list[str], min_rows: int, merge_rare: str | None):
    data = Dataset([f"text {row}" for row in range(len(labels))], labels, list(range(len(labels))))
    counts = Counter(labels)
    settings = PrepareSettings(min_rows=min_rows, merge_rare=merge_rare)
    expected = [
        (text, label if counts[label] >= min_rows else merge_rare)
        for text, label in zip(data.texts, labels, strict=True)
        if merge_rare is not None or counts[label] >= min_rows
    ]
    try:
        merged = merge_rare_labels(data, settings)
    except DataError:
        assert min(counts.values()) < min_rows and len({label for _, label in expected}) < 2
        return
    assert [*zip(merged.texts, merged.labels, strict=True)] == expected
