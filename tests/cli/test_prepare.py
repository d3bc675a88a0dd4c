from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tamis.training.prepared_folder import read_prepared
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv


def tamis(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = tamis_command(*arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(messages(150), tmp_path / "mail.csv")
    return tmp_path


def test_parts_are_written_and_counted_when_a_file_is_prepared(folder: Path) -> None:
    run = tamis("prepare", "mail.csv", "-o", "prepared/", "--test-size", ".2", "--seed", "7", folder=folder)
    assert (run.returncode, run.stderr) == (0, "")
    prepared = read_prepared(folder / "prepared")
    assert (prepared.settings.test_size, prepared.settings.seed) == (0.2, 7)
    train, test = run.stdout.splitlines()
    assert train.startswith(f"prepared/train.csv: {len(prepared.train)} rows (")
    assert test.startswith(f"prepared/test.csv: {len(prepared.test)} rows (")
    assert len(prepared.train) + len(prepared.test) == 150


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_every_step_told_with_texts_file_when_asked_be_verbose(folder: Path, split: str) -> None:
    run = tamis("prepare", "mail.csv", "-o", "p", "--split", split, "-v", folder=folder)
    assert run.returncode == 0, run.stderr
    steps = [line for line in run.stdout.splitlines() if line[:1].isdigit()]
    assert [line[:2] for line in steps] == [f"{step}." for step in range(1, 10)]
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert "becomes:" in run.stdout
    assert "features:" in run.stdout
    assert ("by the shuffle" in run.stdout) == (split == "random")
    lesson = " ".join(run.stdout.split())
    zeros, numbers = map(int, re.search(r"(\d+) zeros and (\d+) numbers: 0 0 0 …", lesson).groups())  # type: ignore[union-attr]
    assert zeros + numbers == 300, "as the workshop pads"
    assert re.search(r"most frequent words of the training part, from 1 on vocabulary: \w+", lesson)
    assert re.search(r"'(ham|spam)' becomes \[(1 0|0 1)\]", lesson)


def test_folder_refused_before_work_when_holds_something_else(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "letter.txt").write_text("dear")
    run = tamis("prepare", "no-such-file.csv", "-o", "mine", folder=folder)
    assert run.returncode == 1
    assert (
        run.stderr
        == "tamis: mine: holds 'letter.txt', which tamis prepare did not write; name another folder\n"
    )


def test_absent_class_told_when_its_texts_all_near_duplicates(folder: Path) -> None:
    with (folder / "mail.csv").open("a") as file:
        file.write("".join(f"rare,always the same words {n},sms\n" for n in range(3)))
    run = tamis("prepare", "mail.csv", "-o", "p", folder=folder)
    assert run.returncode == 0
    assert run.stderr == (
        "1 label is learned and not measured, for lack of a second distinct text: 'rare' (3 rows); "
        "see --min-rows and --merge-rare\n"
    )
