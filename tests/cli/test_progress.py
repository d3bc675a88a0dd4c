"""The bar that long work shows on a terminal: what is done, how well it goes, and the time left."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tamis.cli.terminal import progress_bar
from tests.support.networks import SMALL
from tests.support.samples import messages, write_csv


def without_escapes(drawn: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


def shown_after(steps: list[tuple[float, int, int]], *notices: str, columns: int = 120) -> list[str]:
    """Return the lines of the bar after steps, each (seconds since the start, done, total)."""
    screen, now = io.StringIO(), [0.0]
    console = Console(file=screen, force_terminal=True, width=columns)
    with progress_bar("training", console=console, seconds=lambda: now[0]) as bar:
        for now[0], done, total in steps:
            bar(done, total)
        for text in notices:
            bar.notice(text)
        now[0] += 1
        screen.truncate(0)
        bar.hide()  # draws it a last time
        return without_escapes(screen.getvalue()).strip("\0\r\n ").splitlines()


@pytest.mark.parametrize(
    ("steps", "percent", "left"),
    [
        ([(0, 0, 4), (10, 1, 4)], "25%", "-:--:--"),
        ([(0, 0, 4), (10, 1, 4), (20, 2, 4)], "50%", "0:00:20"),
        ([(600, 1, 10), (1_200, 2, 10)], "20%", "1:20:00"),
        ([(10, 1, 8), (20, 2, 8), (30, 6, 16)], "38%", "0:00:50"),
        ([(10, 1, 2), (20, 2, 2), (30, 1, 10), (40, 2, 10)], "20%", "0:01:20"),
        ([(10, 1, 2), (20, 2, 2)], "100%", "0:00:00"),
        ([(0, 0, 0)], "100%", "0:00:00"),
    ],
    ids=[
        "one step",
        "even steps",
        "slow steps",
        "a new total",
        "work that begins again",
        "the end",
        "no work",
    ],
)
def test_the_time_left_is_told_from_the_speed(steps: list[tuple[float, int, int]], percent: str, left: str):
    (line,) = shown_after(steps)
    assert line.split()[-2:] == [percent, left]


def test_loss_and_accuracy_stand_beside_the_title():
    (line,) = shown_after([(1, 1, 4)], "loss 0.9", "loss 0.5, accuracy 0.75")
    assert line.startswith("training: loss 0.5, accuracy 0.75 ")


def test_nothing_is_cut_off_when_the_terminal_is_narrow():
    notice = "to calibrate, refit on all texts, epoch 2 of 2: loss 0.6023, accuracy 0.7477"
    first, *rest = shown_after([(10, 1, 4), (20, 2, 4)], notice, columns=60)
    assert first.split()[-2:] == ["50%", "0:00:20"]
    beside = [first[:25], *rest]
    assert " ".join(" ".join(beside).split()) == f"training: {notice}"


def test_training_a_network_shows_loss_accuracy_and_time_left(tmp_path: Path):
    """`TTY_COMPATIBLE` plays the terminal."""
    data = write_csv(messages(200), tmp_path / "messages.csv")
    command = [sys.executable, "-m", "tamis", "train", data.name, "-o", "spam", "--model", "lstm"]
    command += [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": "160"}
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    bars = re.findall(
        r"loss (\d\.\d{4}), accuracy (\d\.\d{4}).*?(\d+)% (\d:\d\d:\d\d)", without_escapes(ran.stderr)
    )
    assert any(left > "0:00:00" for *_, left in bars), without_escapes(ran.stderr)
    shares = [int(percent) for _, _, percent, _ in bars]
    assert shares == sorted(shares)


def test_epochs_stay_on_the_screen_with_their_four_metrics(tmp_path: Path):
    data = write_csv(messages(200), tmp_path / "messages.csv")
    command = [sys.executable, "-m", "tamis", "train", data.name, "-o", "spam", "--model", "lstm"]
    small = {**SMALL, "epochs": 2, "validation": 0.3}
    command += [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    number = r"\d+\.\d{4}"
    line = rf"epoch (\d) of 2: loss {number}, accuracy {number}, val_loss {number}, val_accuracy {number}\n"
    epochs = re.findall(line, ran.stderr)
    assert epochs[:2] == ["1", "2"], ran.stderr
