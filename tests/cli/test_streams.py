"""Commands whose output a terminal of another encoding must show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.samples import messages, write_csv

LABELS = {"ham": "нет 😀", "spam": "да"}


def tamis(*arguments: str, folder: Path, encoding: str) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LANG": "C", "LC_ALL": "C"}
    command = [sys.executable, "-m", "tamis", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, env=environ, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mail.csv, whose labels and texts are not ASCII, and a model of it."""
    folder = tmp_path_factory.mktemp("streams")
    file = write_csv(messages(240), folder / "mail.csv")
    rows = file.read_text(encoding="utf-8").splitlines()
    named = [rows[0], *(f"{LABELS[row.split(',')[0]]},{row.split(',', 1)[1]}" for row in rows[1:])]
    file.write_text("\n".join(named) + "\n", encoding="utf-8")
    trained = tamis("train", "mail.csv", "-o", "m", folder=folder, encoding="ascii")
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251", "utf-8"])
@pytest.mark.parametrize(
    "command",
    [
        ("audit", "mail.csv"),
        ("prepare", "mail.csv", "-o", "p", "-v"),
        ("train", "mail.csv", "-o", "m", "--dry"),
        ("evaluate", "m", "mail.csv"),
        ("predict", "m", "WIN a phone 東京", "--echo-input"),
        ("explain", "m", "WIN a phone 東京"),
        ("models", "show", "m"),
    ],
    ids=lambda command: command[0],
)
def test_output_is_escaped_when_the_terminal_lacks_letters(
    folder: Path, command: tuple[str, ...], encoding: str
) -> None:
    run = tamis(*command, folder=folder, encoding=encoding)
    assert run.returncode == 0, run.stderr
    assert b"Traceback" not in run.stderr
    run.stdout.decode(encoding)


def test_json_is_the_same_when_the_terminal_is_ascii(folder: Path) -> None:
    command = ("predict", "m", "WIN a phone 東京 😀", "--json", "--echo-input")
    ascii_run, utf8_run = (tamis(*command, folder=folder, encoding=name) for name in ("ascii", "utf-8"))
    assert json.loads(ascii_run.stdout) == json.loads(utf8_run.stdout)
    assert ascii_run.stdout.isascii()
