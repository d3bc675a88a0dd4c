"""Everything that a command prints for people fits a terminal of 80 columns, whatever the data holds.

`predict` and `log` print whole labels and texts, one record a line, for other programs.
"""

from __future__ import annotations

import os
import subprocess
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner

from tamis.cli import COMMANDS, cli
from tamis.types import Dataset
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv

LONG = "a label of far more than the twenty-two characters that a table has for it"
COMMAND_LINES = {
    "audit": ["audit", "messages.csv", "--fix", "fixed.csv"],
    "prepare": ["prepare", "messages.csv", "-o", "prepared", "-v"],
    "train": ["train", "messages.csv", "-o", "models/other", "--set", "bits=14"],
    "search": ["train", "messages.csv", "-o", "models/third", "--autotune-trials", "2"],
    "evaluate": ["evaluate", "models/spam", "messages.csv"],
    "cross-validate": [
        "cross-validate",
        "messages.csv",
        "--folds",
        "2",
        "--repeats",
        "1",
        "--set",
        "bits=14",
    ],
    "compare": ["compare", "models/spam@1", "models/spam@2", "messages.csv"],
    "explain": ["explain", "models/spam", "WIN a camera now, call 0123456789 to claim"],
    "models list": ["models", "list", "models/spam"],
    "models promote": ["models", "promote", "models/spam@1", "champion"],
    "new": ["new", "my-project"],
}


def tamis(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = tamis_command(*arguments)
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if columns(line) > 80]


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line.rstrip())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model with a long label, a long source and long texts."""
    folder = tmp_path_factory.mktemp("home")
    rows = messages(240)
    texts = [f"{text} " * (8 if i % 9 == 0 else 1) for i, text in enumerate(rows.texts)]
    labels = [LONG if label == "spam" else label for label in rows.labels]
    sources = [f"{LONG} {i % 2}" for i in range(len(rows))]
    write_csv(Dataset(texts, labels, rows.rows, sources=sources), folder / "messages.csv")
    for seed in ("1", "2"):
        made = ["train", "messages.csv", "-o", "models/spam", "--set", "bits=14", "--seed", seed]
        assert tamis(folder, *made).returncode == 0
    return folder


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_command_output_fits_eighty_columns(home: Path, name: str):
    ran = tamis(home, *COMMAND_LINES[name])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    assert too_wide(ran.stdout) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_command_help_fits_eighty_columns(name: str):
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    inner = list(getattr(command, "commands", {}))
    for arguments in ([name], *([name, one] for one in inner)):
        ran = CliRunner().invoke(cli, [*arguments, "--help"])
        assert ran.exit_code == 0
        examples = ran.output.partition("Example: ")
        assert too_wide(examples[0]) == [], arguments


def test_help_of_tamis_fits_eighty_columns():
    assert too_wide(CliRunner().invoke(cli, ["--help"]).output) == []
