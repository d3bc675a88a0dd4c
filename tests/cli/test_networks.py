"""`tamis train --model lstm` and `tamis import-keras`, as a user calls them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import keras_files as old
from tests.support.networks import SMALL
from tests.support.samples import messages, write_csv


def tamis(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "tamis", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


def test_a_dry_run_shows_the_network_and_its_figures(tmp_path: Path):
    data = write_csv(messages(300), tmp_path / "messages.csv")
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    code, output, error = tamis(
        "train", data, "-o", tmp_path / "spam", "--model", "lstm", "--preset", "workshop", *settings, "--dry"
    )
    assert code == 0
    epochs = re.findall(r"^(?:.*, )?epoch [12] of 2: loss .*, accuracy .*$", error, re.MULTILINE)
    assert error.splitlines() == epochs and len(epochs) == 6
    assert "SpatialDropout1D" in output and "nothing was saved (--dry): lstm" in output
    assert not (tmp_path / "spam").exists()


def test_an_unknown_preset_is_one_line(tmp_path: Path):
    data = write_csv(messages(60), tmp_path / "messages.csv")
    code, output, error = tamis(
        "train", data, "-o", tmp_path / "spam", "--model", "lstm", "--preset", "workshp"
    )
    assert (code, output) == (1, "")
    assert error == "tamis: lstm has no preset 'workshp'; did you mean 'workshop'?\n"


def test_a_missing_library_is_one_line_that_names_the_extra(tmp_path: Path):
    data = write_csv(messages(60), tmp_path / "messages.csv")
    program = (
        "import sys; sys.modules['keras'] = None\n"
        f"sys.argv = ['tamis', 'train', {str(data)!r}, '-o', 'spam', '--model', 'lstm']\n"
        "from tamis.cli import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert "tamis[lstm]" in run.stderr and run.stderr.count("\n") == 1


def test_an_old_model_is_imported_and_answers(tmp_path: Path):
    old.write_old_model(tmp_path / "old", [old.embedding(), old.lstm(), old.dense()])
    code, output, error = tamis("import-keras", tmp_path / "old", "-o", tmp_path / "legacy")
    assert (code, output, error) == (0, f"{tmp_path / 'legacy' / '1'}\n", "")
    code, output, _ = tamis("predict", tmp_path / "legacy", "call now")
    assert code == 0 and output.split("\t")[0] in ("ham", "spam")


def test_what_is_wrong_with_an_old_model_is_one_line(tmp_path: Path):
    old.write_old_model(tmp_path / "old", [old.embedding(), old.OldLayer("Lambda"), old.dense()])
    code, output, error = tamis("import-keras", tmp_path / "old", "-o", tmp_path / "legacy")
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert "'Lambda'" in error and "spam_model.h5" in error


def test_other_formats_written_beside_model_and_imported_again(tmp_path: Path):
    data = write_csv(messages(300), tmp_path / "messages.csv")
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    made = ["train", data, "-o", tmp_path / "spam", "--model", "lstm", *settings, "--export", "keras,h5"]
    assert tamis(*made)[0] == 0
    names = {path.name for path in (tmp_path / "spam" / "1").iterdir()}
    assert {"network.keras", "keras_model.h5", "keras_tokenizer.json", "keras_metadata.json"} <= names
    old = tmp_path / "old"
    assert tamis("models", "export", tmp_path / "spam", "-o", old)[0] == 0
    files = {"spam_model.h5", "spam_tokenizer.json", "spam_metadata.json"}
    assert {path.name for path in old.iterdir()} == files
    assert tamis("import-keras", old, "-o", tmp_path / "again")[0] == 0
    assert tamis("import-keras", tmp_path / "spam" / "1", "-o", tmp_path / "legacy")[0] == 0
    asked = "WIN a camera now! Text YES to 0123456789"
    assert tamis("predict", tmp_path / "spam", asked) == tamis("predict", tmp_path / "legacy", asked)


def test_a_format_that_model_has_not_is_refused_before_training(tmp_path: Path):
    data = write_csv(messages(60), tmp_path / "messages.csv")
    code, output, error = tamis("train", data, "-o", tmp_path / "spam", "--export", "h5")
    assert (code, output) == (1, "")
    assert error.startswith("tamis: --export h5: not for a model of kind linear") and error.count("\n") == 1
