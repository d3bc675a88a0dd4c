"""Bounds of a run: rejected rows, memory, and inputs that change while they are read."""

from __future__ import annotations

import shlex
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tamis.batch.assemble import OutputTarget
from tamis.batch.local import BLOCK_COPIES, PROCESS_BYTES, run_locally, workers_within
from tamis.batch.pipeline import ScoreProgress, ScoreRun, ScoreSettings, make_job, open_inputs
from tamis.cli.score import command
from tamis.errors import DataError
from tamis.inference.classifier import Classifier
from tests.support.processes import ENVIRON
from tests.support.samples import messages, write_csv
from tests.support.score_runs import COMMAND, SMALL, assert_predictions, read_output, refused, score, scored

ROOT = Path(__file__).parents[2]


def test_more_rejected_rows_than_allowed_end_the_run(model: Path, tmp_path: Path) -> None:
    rows = write_csv(messages(1_000), tmp_path / "good.csv").read_text("utf-8").splitlines()
    rows[1:1] = ["ham,"] * 7
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n", "utf-8")
    arguments = (str(model), "in.csv", "-o", "out.csv", *SMALL)
    said = refused(*arguments, "--max-rejected", "6", folder=tmp_path)
    assert "7 rows rejected so far, listed in out.csv.rejected.csv; --max-rejected allows 6" in said
    assert not (tmp_path / "out.csv").exists()
    assert len((tmp_path / "out.csv.rejected.csv").read_text().splitlines()) == 8
    said = scored(*arguments, "--max-rejected", "7", folder=tmp_path)
    assert "7 rows rejected (no text: 7); see out.csv.rejected.csv" in said
    assert_predictions(read_output(tmp_path / "out.csv"), messages(1_000).texts, model)


@given(
    memory=st.integers(0, 1 << 40), block=st.integers(1 << 10, 1 << 28), cores=st.integers(1, 256)
)  # fmt: skip
def test_workers_fit_into_the_memory(memory: int, block: int, cores: int) -> None:
    found = workers_within(memory, block, cores)
    assert 0 <= found <= cores
    if found:
        assert PROCESS_BYTES + found * (PROCESS_BYTES + BLOCK_COPIES * block) <= memory


def test_too_little_memory_is_a_usage_error(model: Path, tmp_path: Path) -> None:
    write_csv(messages(10), tmp_path / "in.csv")
    run = score(str(model), "in.csv", "-o", "out.csv", "--max-memory", "100MB", folder=tmp_path)
    assert run.returncode == 2
    assert b"--max-memory is too little for one worker" in run.stderr


def test_output_of_unknown_ending_is_refused(model: Path, tmp_path: Path) -> None:
    write_csv(messages(10), tmp_path / "in.csv")
    said = refused(str(model), "in.csv", "-o", "out.xlsx", folder=tmp_path)
    assert said.startswith("tamis: out.xlsx: the ending names no output format; use .csv")


def test_ray_job_calls_score_with_options_it_has() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "ray" / "rayjob.yaml").read_text("utf-8"))
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["tamis", "score"]
    context = command.make_context("score", words[2:])
    assert context.params["engine"] == "ray"
    assert context.params["output"].endswith("/")
    assert isinstance(job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"], int)


@pytest.mark.parametrize("change", ["truncated", "grown"])
def test_input_that_changes_during_the_run_is_refused(change: str, model: Path, tmp_path: Path) -> None:
    path = write_csv(messages(2_000), tmp_path / "in.csv")
    settings = ScoreSettings(block_bytes=4_096)
    target = OutputTarget.of(str(tmp_path / "out.csv"))
    sources = open_inputs([path], settings)
    run = ScoreRun(make_job(Classifier.load(model), sources, target, settings), sources, target, settings)
    seen: list[ScoreProgress] = []

    def change_once(progress: ScoreProgress) -> None:
        if not seen:
            with path.open("r+b") as file:
                file.truncate(10_000) if change == "truncated" else file.seek(0, 2)
                file.write(b"ham,more,web\n" if change == "grown" else b"")
        seen.append(progress)

    with pytest.raises(DataError, match=r"in\.csv: was (changed|truncated) while it was being read"):
        run.run(partial(run_locally, workers=1), observe=change_once)
    assert not (tmp_path / "out.csv").exists()
    assert refused(str(model), "in.csv", "-o", "out.csv", "--part-size", "4kB", folder=tmp_path)


def test_pandas_is_not_imported_by_any_process(model: Path, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("open('imported', 'w')")
    write_csv(messages(1_000), tmp_path / "in.csv")
    arguments = [str(model), "in.csv", "-o", "out.parquet", "--workers", "2", "--part-size", "8kB"]
    environ = ENVIRON | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=environ, check=True)
    assert not (tmp_path / "imported").exists()
