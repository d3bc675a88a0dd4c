"""Nothing in a label, a text or a name reaches a terminal as a command, whatever command prints it."""

from __future__ import annotations

import json
import re
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tamis.cli
from tamis.cli.metric_tables import show_evaluation
from tamis.cli.terminal import escaped, escaped_in_line, make_console, shortened_name
from tamis.training.evaluator import evaluate
from tamis.types import Dataset
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv

HOSTILE = "\x1b]0;owned\x07\x1b[31mspam\x9b2J[red]s\u202epam[/red] :bomb:"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, a prepared folder and a model whose label is hostile, and so are source and text."""
    folder = tmp_path_factory.mktemp("home")
    rows = messages(150)
    labels = [HOSTILE if label == "spam" else label for label in rows.labels]
    texts = [f"{text} {HOSTILE}" if i % 5 == 0 else text for i, text in enumerate(rows.texts)]
    hostile = type(rows)(texts, labels, rows.rows, sources=[HOSTILE if i % 2 else "web" for i in range(150)])
    write_csv(hostile, folder / "data.csv")
    for command in (
        ("prepare", "data.csv", "-o", "prepared"),
        ("train", "data.csv", "-o", "spam", "--set", "bits=14", "--positive", HOSTILE),
    ):
        assert run(folder, *command).returncode == 0
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with its output in pipes; in an encoding that can express everything."""
    command = tamis_command(*arguments)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "data.csv"),
        ("audit", "data.csv", "--json"),
        ("prepare", "data.csv", "-o", "again", "-v"),
        ("train", "data.csv", "-o", "dry", "--dry", "--set", "bits=14"),
        ("train", "data.csv", "-o", "dry", "--dry", "--positive", "none"),
        ("evaluate", "spam", "data.csv"),
        ("evaluate", "spam", "data.csv", "--json"),
        ("evaluate", "spam", "data.csv", "--label-column", HOSTILE),
        ("compare", "spam", "spam@1", "data.csv"),
        ("cross-validate", "data.csv", "--folds", "2", "--repeats", "1", "--set", "bits=14"),
        ("predict", "spam", f"win {HOSTILE}", "--echo-input"),
        ("predict", "spam", f"win {HOSTILE}", "--echo-input", "--json"),
        ("explain", "spam", f"win {HOSTILE} phone"),
        ("explain", "spam", f"win {HOSTILE} phone", "--json"),
        ("explain", "spam", "win", "--label", "none"),
        ("models", "list", "spam"),
        ("models", "show", "spam"),
        ("serve", f"spam{HOSTILE}"),
    ],
    ids=lambda arguments: " ".join(arguments[:2] + arguments[3:4]).encode("ascii", "ignore").hex()[:24],
)
def test_command_with_hostile_label_prints_no_controls(home: Path, arguments: tuple[str, ...]):
    ran = run(home, *arguments)
    assert "Traceback" not in ran.stderr
    assert _OBEYED.findall(ran.stdout + ran.stderr) == []


def test_json_output_is_the_same_document(home: Path):
    ran = run(home, "predict", "spam", HOSTILE, "--json", "--echo-input")
    answer = json.loads(ran.stdout)
    assert answer["input"] == HOSTILE
    assert HOSTILE in answer["prediction"]


def test_console_prints_markup_as_it_is(capsys: pytest.CaptureFixture[str]):
    make_console(width=80).print("a [red]label[/red] :bomb: \x1b[31m")
    assert capsys.readouterr().out == "a [red]label[/red] :bomb: �[31m\n"


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_shortened_name_is_one_printable_line(name: str, width: int):
    shown = shortened_name(name, width)
    assert shown.isprintable() and len(shown) <= width


def test_evaluation_tells_labels_of_one_canonical_form_apart(capsys: pytest.CaptureFixture[str]):
    labels = ("m2", "m²")
    data = Dataset(["a", "b", "c"], ["m2", "m2", "m²"], [1, 2, 3], sources=["½ l", "½ l", "1⁄2 l"])
    show_evaluation(evaluate(np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), data, labels), "title")
    words = capsys.readouterr().out.split()
    assert words.count("m2") == words.count("m²") == 3
    assert words.count("½") == words.count("1⁄2") == 1


@given(st.text())
def test_escaped_json_strings_stay_the_same(text: str):
    document = json.dumps(text, ensure_ascii=False)
    assert json.loads(escaped(document)) == text


@given(st.text())
def test_escaped_in_line_has_no_control_character(text: str):
    assert all(unicodedata.category(character) != "Cc" for character in escaped_in_line(text))


def test_every_command_prints_through_the_terminal_module():
    folder = Path(tamis.cli.__file__).parent
    for module in set(folder.glob("*.py")) - {folder / "terminal.py"}:
        assert not re.search(r"click\.s?echo\(|(?<!\w)Console\(", module.read_text()), module.name
