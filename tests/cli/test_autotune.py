"""`tamis train --autotune`, as a user calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tamis.artifact import open_artifact
from tamis.cli import cli
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(messages(200), tmp_path_factory.mktemp("data") / "messages.csv")


def tamis(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def search(data: Path, output: Path, *options: object) -> Result:
    return tamis("train", data, "-o", output, "--set", "bits=12", *options)


def test_each_trial_is_a_line_and_the_best_is_trained(data: Path, tmp_path: Path):
    ran = search(data, tmp_path / "spam", "--autotune", "10m", "--autotune-trials", 4, "--model", "linear")
    assert ran.exit_code == 0, ran.output
    lines = ran.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == [f"trial {number}" for number in (1, 2, 3, 4)]
    assert re.fullmatch(
        r"trial 1: linear, bits=12: log loss 0\.\d{4} ± 0\.\d{4}, accuracy \d\.\d{4}, [\d,]+ kB, "
        r"\d+\.\d s, the best so far",
        lines[0],
    )
    best = re.match(r"4 trials, all trials are done; the best is number (\d): linear, bits=12", lines[4])
    assert best is not None
    manifest = open_artifact(tmp_path / "spam").manifest
    assert manifest.training["search"]["best"] == int(best[1])
    assert manifest.training["overrides"]["bits"] == "12"


def test_the_search_is_part_of_the_json(data: Path, tmp_path: Path):
    found = json.loads(search(data, tmp_path / "spam", "--autotune-trials", 2, "--json").stdout)
    assert found["search"] == open_artifact(tmp_path / "spam").manifest.training["search"]
    assert found["search"]["objective"] == "log loss" and found["search"]["tried"] == 2
    assert json.loads(search(data, tmp_path / "spam", "--json").stdout)["search"] is None


def test_a_dry_run_searches_and_saves_nothing(data: Path, tmp_path: Path):
    ran = search(data, tmp_path / "spam", "--autotune-trials", 2, "--dry")
    assert ran.exit_code == 0
    assert "trial 2: linear" in ran.stderr and "nothing was saved (--dry)" in ran.stdout
    assert not (tmp_path / "spam").exists()


def test_a_size_refuses_what_is_larger(data: Path, tmp_path: Path):
    options = ("--autotune-trials", 12, "--max-size", "15kB", "--seed", 3)
    ran = tamis("train", data, "-o", tmp_path / "spam", *options)
    assert ran.exit_code == 0, ran.stderr
    assert "trial 1: linear, defaults: too large" in ran.stderr
    assert open_artifact(tmp_path / "spam").manifest.files["weights.safetensors"].size_bytes <= 15_000


def test_nothing_small_enough_is_one_line(data: Path, tmp_path: Path):
    command = ["train", data, "-o", tmp_path / "spam", "--autotune-trials", 2, "--max-size", "0.1kB"]
    ran = subprocess.run(tamis_command(*command), capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stdout == ""
    said = ran.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"tamis: no model of at most 100 bytes was found in 2 trials; the smallest had [\d,]+: allow as "
        r"much, or search longer",
        said,
    )
    assert [*(tmp_path / "spam").glob("[0-9]*")] == []


@pytest.mark.parametrize("value", ["60", "0s", "05m", "-5s", "1.5h", "5 m", "3d", "999999h", "", "٥s"])
def test_a_wrong_time_is_wrong_use(data: Path, tmp_path: Path, value: str):
    ran = search(data, tmp_path / "spam", "--autotune", value)
    assert ran.exit_code == 2
    assert "'--autotune': must be a whole number and s, m or h, such as 5m; 100 years at most" in ran.stderr


@pytest.mark.parametrize("value", ["2", "0MB", "-1MB", "2TB", "MB", "0.0000001kB"])
def test_a_wrong_size_is_wrong_use(data: Path, tmp_path: Path, value: str):
    ran = search(data, tmp_path / "spam", "--autotune", "60s", "--max-size", value)
    assert ran.exit_code == 2
    assert "'--max-size': must be a number and kB, MB or GB, such as 500kB or 2MB" in ran.stderr


def test_a_size_without_a_search_is_wrong_use(data: Path, tmp_path: Path):
    ran = search(data, tmp_path / "spam", "--max-size", "2MB")
    assert ran.exit_code == 2 and "give --autotune too" in ran.stderr


def test_format_that_not_every_kind_has_is_refused_before_search(data: Path, tmp_path: Path):
    ran = tamis("train", data, "-o", tmp_path / "spam", "--autotune-trials", 2, "--export", "keras")
    assert "not for a model of kind linear" in str(ran.exception)


def test_the_report_and_the_card_tell_of_the_search(data: Path, tmp_path: Path):
    search(data, tmp_path / "spam", "--autotune-trials", 3)
    report = (tmp_path / "spam/1/report.html").read_text()
    assert "Search for settings" in report and "<b>bits=12" in report
    assert "Search: the best of 3 trials" in (tmp_path / "spam/1/MODEL_CARD.md").read_text()
    search(data, tmp_path / "plain")
    assert "Search for settings" not in (tmp_path / "plain/1/report.html").read_text()
    assert "Search" not in (tmp_path / "plain/1/MODEL_CARD.md").read_text()


def test_a_terminal_shows_a_table(data: Path, tmp_path: Path):
    """It is drawn again and again, and its last state stands; `TTY_COMPATIBLE` plays the terminal."""
    command = ["train", data, "-o", tmp_path / "spam", "--autotune", "10m", "--model", "linear"]
    command += ["--autotune-trials", 3, "--set", "bits=12"]
    environment = {**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": "120", "LINES": "30"}
    ran = subprocess.run(tamis_command(*command), capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ran.stderr)
    for expected in ("trial", "settings", "log loss", "accuracy", "size", "time", "bits=12", "best"):
        assert expected in plain
    assert re.search(r"6\d\d s left|5\d\d s left", plain) and "Ctrl-C ends the search" in plain
    assert "3 trials, all trials are done; the best is number" in plain
    assert "trial 1: linear" not in plain  # the lines of a pipe


def test_ctrl_c_trains_with_the_best_so_far(data: Path, tmp_path: Path):
    command = ["train", data, "-o", tmp_path / "spam", "--autotune", "1h", "--model", "linear"]
    with subprocess.Popen(
        tamis_command(*command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("trial 2:"):
                running.send_signal(signal.SIGINT)
                break
        stdout, stderr = running.communicate()
    assert running.returncode == 0, stderr
    assert "stopped; the best so far is kept" in stderr
    assert f"{tmp_path / 'spam' / '1'}: linear" in stdout
    assert open_artifact(tmp_path / "spam").manifest.training["search"]["tried"] >= 2


def test_three_labels_are_searched_for(tmp_path: Path):
    data = write_csv(messages(240, labels=("ham", "spam", "question")), tmp_path / "three.csv")
    assert search(data, tmp_path / "three", "--autotune-trials", 2).exit_code == 0
    assert open_artifact(tmp_path / "three").manifest.training["search"]["tried"] == 2
