"""`tamis score` as a real process on small files, and what it should have written."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet

from tamis.batch.assemble import OutputTarget
from tamis.batch.inputs import find_inputs
from tamis.batch.local import run_locally
from tamis.batch.pipeline import ScoreRun, ScoreSettings, make_job, open_inputs
from tamis.inference.classifier import Classifier
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON

COMMAND = [sys.executable, "-m", "tamis", "score"]
SMALL = ("--workers", "1", "--part-size", "4kB")
"""Many parts of little data, made by a single worker."""


def score(*arguments: str, folder: Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        tamis_command("score", *arguments),
        cwd=folder,
        env=ENVIRON,
        input=stdin,
        capture_output=True,
        check=False,
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


def score_here(
    model: Path, *names: str, folder: Path, output: str = "out.parquet", **settings: Any
) -> tuple[pyarrow.Table, list[list[str]]]:
    """Score files in this process; return the output and the rows that were rejected."""
    target = OutputTarget.of(str(folder / output))
    found = ScoreSettings(**{"block_bytes": 4096, **settings})
    sources = open_inputs(find_inputs([str(folder / name) for name in names]), found)
    run = ScoreRun(make_job(Classifier.load(model), sources, target, found), sources, target, found)
    summary = run.run(partial(run_locally, workers=1))
    listed = folder / f"{output}.rejected.csv"
    lines = listed.read_text("utf-8").splitlines()[1:] if listed.exists() else []
    rows = list(csv.reader(lines))
    assert summary.n_rejected == len(rows)
    table = read_output(folder / output)
    assert summary.n_rows == table.num_rows + len(rows)
    return table, [[Path(name).name, number, reason] for name, number, reason in rows]
