"""`tamis score` as a real process on small files, and what it should have written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet

from tamis.inference.classifier import Classifier
from tests.support.processes import ENVIRON

COMMAND = [sys.executable, "-m", "tamis", "score"]
SMALL = ("--workers", "1", "--part-size", "4kB")
"""Many parts of little data, made by a single worker."""


def score(*arguments: str, folder: Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRON, input=stdin, capture_output=True, check=False
    )


def scored(*arguments: str, folder: Path) -> str:
    """Run `tamis score`, which must succeed, and return its messages."""
    run = score(*arguments, folder=folder)
    assert run.returncode == 0, run.stderr.decode()
    return run.stderr.decode()


def refused(*arguments: str, folder: Path) -> str:
    """Run `tamis score`, which must fail in one line, and return that line."""
    run = score(*arguments, folder=folder)
    *_, last = run.stderr.decode().splitlines()
    assert run.returncode == 1, run.stderr.decode()
    assert last.startswith("tamis: ")
    assert "Traceback" not in run.stderr.decode()
    return last


def read_output(path: Path) -> pyarrow.Table:
    """Return what was written, by a reader of another project."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        return parquet.read_table(path)
    if name.endswith(".arrow"):
        return ipc.open_file(path).read_all()
    if name.endswith(".jsonl"):
        from pyarrow import json as arrow_json

        return arrow_json.read_json(path)
    options = arrow_csv.ParseOptions(
        newlines_in_values=True, delimiter="\t" if name.endswith(".tsv") else ","
    )
    return arrow_csv.read_csv(path, parse_options=options)


def assert_predictions(table: pyarrow.Table, texts: Sequence[str], model: Path) -> None:
    """Compare label, decision and score with `predict_many`, to the digit."""
    expected = Classifier.load(model).predict_many(texts)
    assert table.column("decision").to_pylist() == [one.decision for one in expected]
    assert table.column("score").to_pylist() == [one.score for one in expected]
    label = "predicted_label" if "predicted_label" in table.column_names else "label"
    assert table.column(label).to_pylist() == [one.label for one in expected]


def digest_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, hidden ones too."""
    return {
        os.fspath(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
