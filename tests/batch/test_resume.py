"""A run that is killed, stopped or fails goes on; its output is that of an undisturbed run, byte for byte."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import concat_tables

from tamis.training.train import train
from tests.support.faults import disk_of_8_mb, fill
from tests.support.process_stats import children_of
from tests.support.processes import ENVIRON, waiting_for
from tests.support.samples import messages, write_csv
from tests.support.score_runs import (
    COMMAND,
    assert_predictions,
    digest_of,
    read_output,
    refused,
    scored,
)

N_ROWS = 12_000
TINY = ("--workers", "1", "--part-size", "1kB")
"""So many parts that no run ends before the test looks at it again."""

BAD_ROWS = ["ham,", 'ham,"two",sms,four', "ham"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A CSV with bad rows at its start, middle and end."""
    folder = tmp_path_factory.mktemp("data")
    lines = write_csv(messages(N_ROWS, seed=11), folder / "in.csv").read_text("utf-8").splitlines()
    for at, row in zip((3, N_ROWS // 2, N_ROWS - 5), BAD_ROWS, strict=True):
        lines.insert(at, row)
    return ("\n".join(lines) + "\n").encode()


def journal_lines(folder: Path, output: str) -> int:
    journal = folder / f"{output}.parts" / "_parts.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def start(*arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder.parent / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            env=ENVIRON,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def run_until_parts(n_more: int, *arguments: str, folder: Path, output: str) -> subprocess.Popen[bytes]:
    """Start a run and return it when it has finished so many parts more, or has ended."""
    before = journal_lines(folder, output)
    process = start(*arguments, folder=folder)
    for _ in waiting_for(process):
        if journal_lines(folder, output) >= before + n_more:
            break
    return process


def ended(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") and _is_alive(pid) for pid in pids)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.mark.parametrize(("output", "workers"), [("out.parquet", "2"), ("out.csv.gz", "1")])
def test_killed_ten_times_equals_undisturbed(
    output: str, workers: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "in.csv").write_bytes(data)
    # so many parts that ten runs, each killed after a few, cannot finish them all
    arguments = (str(model), "in.csv", "-o", output, "--scores", "--part-size", "4kB", "--workers", workers)
    scored(*arguments, folder=whole)
    rng, kills = random.Random(output), 0
    while kills < 10:
        process = run_until_parts(rng.randrange(1, 6), *arguments, folder=killed, output=output)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.random() / 200)  # a random moment within a part
        workers_left = children_of(process.pid)
        process.kill()
        process.wait()
        kills += 1
        deadline = time.monotonic() + 30
        while not ended(workers_left) and time.monotonic() < deadline:
            os.sched_yield()
        assert ended(workers_left), "a worker outlived its parent"
    assert journal_lines(killed, output) > 10, "the kills came before any work was done"
    said = scored(*arguments, folder=killed)
    assert "by an earlier run" in said
    assert digest_of(killed) == digest_of(whole)
    found = read_output(whole / output)
    assert found.num_rows == N_ROWS
    assert_predictions(found, messages(N_ROWS, seed=11).texts, model)
    rejected = (whole / f"{output}.rejected.csv").read_text().splitlines()
    assert rejected == [
        "file,row,reason",
        "in.csv,3,no text",
        f"in.csv,{N_ROWS // 2},4 cells for 3 columns; quote a text that holds the delimiter or a quote",
        f"in.csv,{N_ROWS - 5},the text is missing: the row has 1 of 3 cells",
    ]


@pytest.fixture
def interrupted(data: bytes, model: Path, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The arguments of a run in `tmp_path` that was killed after some parts."""
    (tmp_path / "in.csv").write_bytes(data)
    arguments = (str(model), "in.csv", "-o", "out.parquet", *TINY)
    process = run_until_parts(3, *arguments, folder=tmp_path, output="out.parquet")
    process.kill()
    process.wait()
    assert journal_lines(tmp_path, "out.parquet") >= 3
    assert not (tmp_path / "out.parquet").exists()
    yield arguments


def test_resume_with_changed_input_is_refused(interrupted: tuple[str, ...], tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("ab") as file:
        file.write(b"ham,one more,web\n")
    said = refused(*interrupted, folder=tmp_path)
    assert "differs in input in.csv; give --restart" in said
    scored(*interrupted, "--restart", folder=tmp_path)
    assert read_output(tmp_path / "out.parquet").num_rows == N_ROWS + 1


def test_resume_with_other_settings_is_refused(interrupted: tuple[str, ...], tmp_path: Path) -> None:
    for option, name in (("--scores", "columns"), ("--max-characters=50", "max_characters")):
        assert f"differs in setting {name}" in refused(*interrupted, option, folder=tmp_path)
    assert "differs in setting block_bytes" in refused(*interrupted, "--part-size", "5kB", folder=tmp_path)


def test_resume_with_another_model_is_refused(
    interrupted: tuple[str, ...], other_model: Path, model: Path, tmp_path: Path
) -> None:
    _, *rest = interrupted
    assert "differs in model version" not in refused(str(other_model), *rest, folder=tmp_path)
    assert "differs in model digest" in refused(str(other_model), *rest, folder=tmp_path)
    scored(str(other_model), *rest, "--restart", folder=tmp_path)
    found = read_output(tmp_path / "out.parquet")
    assert_predictions(found, found.column("text").to_pylist(), other_model)


def test_resume_with_another_version_is_refused(model: Path, data: bytes, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    (tmp_path / "in.csv").write_bytes(data)
    scored("m", "in.csv", "-o", "scored/", "--part-size", "4kB", folder=tmp_path)
    old = set((tmp_path / "scored").glob("part-*"))
    arguments = ("m", "in.csv", "-o", "out.csv", *TINY)
    process = run_until_parts(3, *arguments, folder=tmp_path, output="out.csv")
    process.kill()
    process.wait()
    train(write_csv(messages(240, seed=9), tmp_path / "mail.csv"), tmp_path / "m")
    assert "differs in model version" in refused(*arguments, folder=tmp_path)
    scored("m", "in.csv", "-o", "out.csv", *TINY, "--restart", folder=tmp_path)
    again = ("m", "in.csv", "-o", "scored/", "--part-size", "100kB")
    assert "scored/: holds parts already" in refused(*again, folder=tmp_path)
    scored(*again, "--restart", folder=tmp_path)
    parts = sorted((tmp_path / "scored").glob("part-*"))
    assert len(parts) < len(old), "parts of the earlier version are left"
    for found in (read_output(tmp_path / "out.csv"), concat_tables(map(read_output, parts))):
        assert_predictions(found, messages(N_ROWS, seed=11).texts, tmp_path / "m")


def test_resume_makes_a_damaged_part_again(interrupted: tuple[str, ...], tmp_path: Path) -> None:
    part = tmp_path / "out.parquet.parts" / "part-000001.arrow"
    part.write_bytes(part.read_bytes()[:-100])
    scored(*interrupted, folder=tmp_path)
    found = read_output(tmp_path / "out.parquet")
    assert found.column("text").to_pylist() == list(messages(N_ROWS, seed=11).texts)


def test_resume_drops_a_torn_line_of_the_journal(interrupted: tuple[str, ...], tmp_path: Path) -> None:
    with (tmp_path / "out.parquet.parts" / "_parts.jsonl").open("ab") as file:
        file.write(b'{"index":99,"sour')
    scored(*interrupted, folder=tmp_path)
    assert read_output(tmp_path / "out.parquet").num_rows == N_ROWS


def test_second_run_at_the_same_time_is_refused(data: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    arguments = (str(model), "in.csv", "-o", "out.parquet", *TINY)
    process = run_until_parts(1, *arguments, folder=tmp_path, output="out.parquet")
    process.send_signal(signal.SIGSTOP)
    try:
        assert "another run is writing here" in refused(*arguments, folder=tmp_path)
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_control_c_leaves_what_is_finished(workers: str, data: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    arguments = (str(model), "in.csv", "-o", "out.csv", "--part-size", "1kB", "--workers", workers)
    process = run_until_parts(2, *arguments, folder=tmp_path, output="out.csv")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    assert process.wait() == 1
    *_, last = (tmp_path.parent / "stderr").read_text().splitlines()
    assert last == "tamis: stopped; run the same command again to resume"
    assert journal_lines(tmp_path, "out.csv") >= 2
    assert "by an earlier run" in scored(*arguments, folder=tmp_path)


def test_existing_output_is_replaced_only_by_restart(data: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    (tmp_path / "out.csv").write_text("precious\n")
    arguments = (str(model), "in.csv", "-o", "out.csv")
    assert "out.csv: exists already; give --restart" in refused(*arguments, folder=tmp_path)
    assert (tmp_path / "out.csv").read_text() == "precious\n"
    scored(*arguments, "--restart", folder=tmp_path)
    assert read_output(tmp_path / "out.csv").num_rows == N_ROWS


def test_full_disk_is_one_line_and_resumable(data: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(data + data[data.index(b"\n") + 1 :] * 11)
    with disk_of_8_mb(tmp_path / "disk") as disk:
        arguments = (str(model), "in.csv", "-o", "disk/out.csv", "--part-size", "100kB", "--workers", "2")
        said = refused(*arguments, folder=tmp_path)
        assert "No space left on device; run the same command again to resume" in said
        assert not (disk / "out.csv").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert "by an earlier run" in scored(*arguments, folder=tmp_path)
        assert read_output(disk / "out.csv").num_rows == 12 * N_ROWS


def test_journal_on_a_full_disk_is_one_line_and_resumable(data: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    arguments = (str(model), "in.csv", "-o", "out.csv", *TINY)
    process = run_until_parts(1, *arguments, folder=tmp_path, output="out.csv")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    journal = tmp_path / "out.csv.parts" / "_parts.jsonl"
    with disk_of_8_mb(tmp_path / "disk") as disk:
        shutil.move(journal, disk / "journal")
        journal.symlink_to(disk / "journal")
        filler = fill(disk)
        said = refused(*arguments, folder=tmp_path)
        assert said.endswith("No space left on device; run the same command again to resume")
        filler.unlink()
        assert "by an earlier run" in scored(*arguments, folder=tmp_path)
    assert read_output(tmp_path / "out.csv").num_rows == N_ROWS
