from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tamis.data.reader import read_dataset
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv

NO_SCIKIT_LEARN = """
import sys
sys.modules["sklearn"] = None
from tamis.cli import main
main()
"""


def tamis(*arguments: str, folder: Path, start: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *start, *arguments] if start else tamis_command(*arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with mail.csv: 200 messages, and one of each thing that may be wrong."""
    file = tmp_path / "mail.csv"
    write_csv(messages(200), file)
    extra = [
        'ham,"a quote ate,sms\nspam,this whole row here",sms',
        "ham, ,sms",
        "ham,the very same text twice,sms",
        "ham,the very same text twice,sms",
        "spam,the very same text twice,sms",
        "ham,WIN a camera now! Text CASH to 81234,sms",
        "ham,a bell \a and \x1b[31mred\x1b[0m letters,sms",
    ]
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n".join(extra) + "\n")
    return tmp_path


def test_page_is_sorted_by_severity_and_80_columns_when_piped(folder: Path) -> None:
    run = tamis("audit", "mail.csv", folder=folder)
    assumed = "mail.csv: assumed 1 row recovered from row 201, after an unescaped quote\n"
    assert (run.returncode, run.stderr) == (0, assumed)
    lines = run.stdout.splitlines()
    assert lines[0] == "Audit of mail.csv"
    assert "208 rows (207 before repair)" in lines[1]
    found = [line.split()[0] for line in lines if line.startswith(("problem ", "warning ", "note "))]
    assert found == sorted(found, key=["problem", "warning", "note"].index)
    assert found.count("problem") == 2
    assert max(map(len, lines)) <= 80
    assert "ham: 203, 204; spam: 205" in run.stdout
    assert "Possible label issues" in run.stdout
    assert "\x1b" not in run.stdout


def test_labels_of_one_canonical_form_are_told_apart(folder: Path) -> None:
    rows = [
        ("m²", "the hall has forty"),
        ("m2", "the hall has fifty"),
        ("m²", "one text"),
        ("m2", "one text"),
    ]
    lines = ["label,text,source", *(f"{label},{text},{label} sheet" for label, text in rows)]
    (folder / "units.csv").write_text("\n".join(lines), encoding="utf-8")
    told = tamis("audit", "units.csv", folder=folder).stdout.partition("\nLabels")[2]
    assert "m2: 4; m²: 3" in told
    assert told.count("m²") == told.count("m2") == 5


def test_json_has_findings_and_figures_when_asked_for(folder: Path) -> None:
    run = tamis("audit", "mail.csv", "--json", folder=folder)
    report = json.loads(run.stdout)
    assert report["rows"] == 208
    assert report["empty_rows"] == [202]
    assert report["swallowed"] == [{"row": 201, "recovered": 1}]
    assert report["findings"][0]["severity"] == "problem"
    assert report["labels_not_checked"] is None
    assert (206, "ham", "spam") in [(d["row"], d["label"], d["suggested"]) for d in report["label_issues"]]


def test_fixed_file_has_no_duplicates_when_it_is_written(folder: Path) -> None:
    before = (folder / "mail.csv").read_bytes()
    run = tamis("audit", "mail.csv", "--fix", "out/fixed.csv", folder=folder)
    assert run.returncode == 0
    assert "1 swallowed row recovered" in run.stderr
    assert "1 empty text dropped" in run.stderr
    assert (folder / "mail.csv").read_bytes() == before
    fixed = read_dataset(folder / "out" / "fixed.csv")
    examples = list(zip(fixed.dataset.texts, fixed.dataset.labels, strict=True))
    assert ("this whole row here", "spam") in examples
    assert {label for text, label in examples if text.startswith("the very same")} == {"ham", "spam"}
    assert len(set(examples)) == len(examples)
    assert all(text.strip() for text, _ in examples)


def test_audit_says_what_to_install_when_scikit_learn_is_missing(folder: Path) -> None:
    run = tamis("audit", "mail.csv", folder=folder, start=("-c", NO_SCIKIT_LEARN))
    assert run.returncode == 0, run.stderr
    assert "labels were not checked with a model" in run.stdout
    assert "pip install 'tamis[train]'" in run.stdout


def test_audit_says_why_labels_are_not_checked_with_few_texts(folder: Path) -> None:
    (folder / "few.csv").write_text("label,text\nham,one\nspam,two\n")
    run = tamis("audit", "few.csv", folder=folder)
    assert run.returncode == 0, run.stderr
    assert "labels were not checked with a model" in run.stdout


def test_failure_is_one_line_when_the_file_is_not_there(folder: Path) -> None:
    run = tamis("audit", "none.csv", folder=folder)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("tamis: none.csv: ")
    assert run.stderr.count("\n") == 1


def test_audit_refuses_to_write_over_the_file_it_reads(folder: Path) -> None:
    run = tamis("audit", "mail.csv", "--fix", "./mail.csv", folder=folder)
    assert run.returncode == 2
    assert "never overwritten" in run.stderr
