"""Every command that reads a data file says what it assumed, on one line of standard error and in JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_audit import tamis
from tests.support.samples import messages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mail.txt, whose delimiter and columns must be guessed, and a model of it."""
    folder = tmp_path_factory.mktemp("reading")
    data = messages(240)
    rows = (
        f"{label};{text.replace(';', ',')}\n" for label, text in zip(data.labels, data.texts, strict=True)
    )
    (folder / "mail.txt").write_text("kind;body\n" + "".join(rows), encoding="utf-8")
    trained = tamis("train", "mail.txt", "-o", "m", "--json", folder=folder)
    assert trained.returncode == 0, trained.stderr
    (folder / "train.json").write_text(trained.stdout)
    prepared = tamis("prepare", "mail.txt", "-o", "p", folder=folder)
    assert prepared.returncode == 0, prepared.stderr
    return folder


WORDS = ["apple", "birch", "cedar", "daisy", "elder", "fennel", "grape", "hazel", "ivy", "jade", "kale"]
ASSUMED = "mail.txt: assumed delimiter ';'; label column 'kind'; text column 'body'\n"


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "mail.txt", "--json"),
        ("prepare", "mail.txt", "-o", "p"),
        ("train", "mail.txt", "-o", "m2", "--dry", "--json"),
        ("cross-validate", "mail.txt", "--folds", "2", "--repeats", "1", "--json"),
    ],
    ids=lambda command: command[0],
)
def test_assumptions_are_one_line_when_a_command_reads(folder: Path, command: tuple[str, ...]) -> None:
    run = tamis(*command, folder=folder)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ASSUMED


@pytest.mark.parametrize(
    "command", [("evaluate", "m", "mail.txt", "--json"), ("compare", "m", "m", "mail.txt", "--json")]
)
def test_columns_are_remembered_when_a_model_is_measured(folder: Path, command: tuple[str, ...]) -> None:
    run = tamis(*command, folder=folder)
    assert run.returncode == 0, run.stderr
    first, second, *_ = run.stderr.splitlines()
    assert first == "mail.txt: assumed delimiter ';'"
    assert second.startswith("this is the file that the model was trained on")
    reading = json.loads(run.stdout)["reading"]
    assert reading["assumed"] == ["delimiter ';'"]
    assert (reading["columns"]["label"], reading["columns"]["text"]) == ("kind", "body")


def test_assumptions_are_in_json_and_manifest_when_trained(folder: Path) -> None:
    assumed = ["delimiter ';'", "label column 'kind'", "text column 'body'"]
    assert json.loads((folder / "train.json").read_text())["reading"]["assumed"] == assumed
    data = json.loads((folder / "m" / "1" / "manifest.json").read_text())["data"]
    assert data["columns"] == {"label": "kind", "text": "body", "source": "source", "group": None}
    assert data["reading"] == {"assumed": assumed}
    assert json.loads((folder / "p" / "prepared.json").read_text())["assumed"] == assumed


def test_file_is_read_the_same_way_when_options_were_given(folder: Path) -> None:
    lines = (folder / "mail.txt").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "bare.csv").write_bytes("\n".join(line.replace("e", "ë") for line in lines).encode("cp1252"))
    options = ("--no-header", "--encoding", "cp1252", "--delimiter", "semicolon")
    trained = tamis("train", "bare.csv", "-o", "m3", *options, folder=folder)
    assert trained.returncode == 0, trained.stderr
    measured = tamis("evaluate", "m3", "bare.csv", *options, folder=folder)
    assert measured.returncode == 0, measured.stderr
    assert "measuring on its test part only" in measured.stderr
    data = json.loads((folder / "m3" / "1" / "manifest.json").read_text())["data"]
    assert data["reading"]["encoding"] == "cp1252"
    assert data["reading"]["has_header"] is False


def test_label_variants_are_one_line_when_trained(tmp_path: Path) -> None:
    data = messages(240)
    labels = [label.upper() if n % 10 == 0 else f" {label}" for n, label in enumerate(data.labels)]
    rows = (f'{label},"{text}"\n' for label, text in zip(labels, data.texts, strict=True))
    (tmp_path / "mail.csv").write_text(
        "label,text\n" + "".join(rows) + "".join(f"nan,{word} again\n" for word in WORDS), encoding="utf-8"
    )
    run = tamis("train", "mail.csv", "-o", "m", "--dry", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = run.stderr.splitlines()
    assert first == "mail.csv: assumed blanks or Unicode form of the label changed in 216 rows"
    assert "check the labels: 'ham' (96), 'HAM' (24) may be one label" in second
    assert "'nan' (11) may mean a missing label" in second
    audited = json.loads(tamis("audit", "mail.csv", "--json", folder=tmp_path).stdout)
    problems = [finding["what"] for finding in audited["findings"] if finding["severity"] == "problem"]
    assert "'nan' (11) may mean a missing label" in problems


def test_identifiers_are_named_when_taken_for_labels(tmp_path: Path) -> None:
    rows = "".join(f"id{n},some text about {n}\n" for n in range(40))
    (tmp_path / "ids.csv").write_text("label,text\n" + rows)
    expected = (
        "tamis: ids.csv: 40 labels with one row each: is 'label' the label column? "
        "name another with --label-column\n"
    )
    for command in (("train", "ids.csv", "-o", "m"), ("prepare", "ids.csv", "-o", "p")):
        run = tamis(*command, folder=tmp_path)
        assert (run.returncode, run.stderr) == (1, expected)


def test_html_is_stripped_when_served_as_when_trained(tmp_path: Path) -> None:
    data = messages(240)
    rows = (
        f'{label},"<p>{text.replace(chr(34), "")} &amp; more</p>"\n'
        for label, text in zip(data.labels, data.texts, strict=True)
    )
    (tmp_path / "mail.csv").write_text("label,text\n" + "".join(rows), encoding="utf-8")
    assert "240 texts with HTML" in tamis("audit", "mail.csv", folder=tmp_path).stdout
    trained = tamis("train", "mail.csv", "-o", "m", "--strip-html", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    texts = ["<p>WIN a phone now &amp; call</p>", "WIN a phone now & call"]
    answers = tamis("predict", "m", *texts, "--json", folder=tmp_path).stdout.splitlines()
    assert answers[0] == answers[1]


def test_text_column_is_predicted_when_the_file_is_a_table(folder: Path) -> None:
    lines = ["id;kind;body", *(f"{n};ham;see you, Émile, at {n}" for n in range(3)), "3;;WIN a phone now"]
    (folder / "new.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = tamis("predict", "m", "--file", "new.csv", "--echo-input", folder=folder)
    assert (run.returncode, run.stderr) == (0, "new.csv: assumed delimiter ';'\n")
    texts = [line.split("\t")[2] for line in run.stdout.splitlines()]
    assert texts == [*(f"see you, Émile, at {n}" for n in range(3)), "WIN a phone now"]


def test_table_is_refused_when_its_text_column_is_in_doubt(folder: Path) -> None:
    (folder / "doubt.csv").write_text("a,b\n" + "".join(f"one text {n},other text {n}\n" for n in range(9)))
    run = tamis("predict", "m", "--file", "doubt.csv", folder=folder)
    assert (run.returncode, run.stdout) == (1, "")
    assert "has no column 'text'; it has 'a', 'b'; name the right one with --text-column" in run.stderr
    named = tamis("predict", "m", "--file", "doubt.csv", "--text-column", "b", "--json", folder=folder)
    assert named.stdout.count("\n") == 9


def test_arguments_are_one_text_when_asked_for(folder: Path) -> None:
    run = tamis("predict", "m", "see", "you", "at", "six", "--one-text", "--echo-input", folder=folder)
    assert run.stdout.endswith("\tsee you at six\n")
    assert run.stdout.count("\n") == 1


def test_lines_are_decoded_when_their_encoding_is_named(folder: Path) -> None:
    (folder / "lines.txt").write_bytes("Café à midi\nnaïve\n".encode("cp1252"))
    refused = tamis("predict", "m", "--file", "lines.txt", folder=folder)
    assert refused.stderr == "tamis: lines.txt, line 1: not valid utf-8; name the encoding with --encoding\n"
    run = tamis("predict", "m", "--file", "lines.txt", "--encoding", "cp1252", "--echo-input", folder=folder)
    assert [line.split("\t")[2] for line in run.stdout.splitlines()] == ["Café à midi", "naïve"]


def cases() -> Path:
    import os

    return Path(os.environ.get("TAMIS_SHARED") or Path(__file__).parents[3] / "shared") / "cases" / "csv"


@pytest.mark.skipif(not cases().is_dir(), reason="no shared cases: set TAMIS_SHARED")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("03_every_row_its_own_label.csv", "240 labels with one row each: is 'label' the label column?"),
        ("04_cp1251.csv", "encoding cp1251 (detected"),
        ("04_gbk.csv", "encoding gb18030 (detected"),
        ("05_label_1_and_1.0.csv", "'1' (40), '1.0' (40) may be one label"),
        ("05_label_blanks.csv", "changed in 48 rows"),
        ("05_label_case.csv", "'spam' (64), 'SPAM' (8), 'Spam' (8) may be one label"),
        ("05_label_nan.csv", "'nan' (16) may mean a missing label"),
        ("06_source_is_url.csv", "column 'source' ignored"),
        ("07_excel_trailing_blanks.csv", ""),
        ("07_header_line_break.csv", ""),
        ("07_unneeded_column_twice.csv", ""),
        ("08_backslash_silent.csv", "quotes escaped by a backslash"),
        ("09_fasttext.txt", "lines of __label__NAME and a text"),
        ("09_gzipped.csv.gz", ""),
        ("09_lfs_pointer.csv", "is a Git LFS pointer"),
        ("09_no_header.csv", "the first line is a row, not column names"),
        ("09_pipe.csv", "delimiter '|'"),
        ("09_rows.jsonl", "JSON lines"),
    ],
)
def test_shared_case_is_read_or_named_when_trained(tmp_path: Path, name: str, says: str) -> None:
    run = tamis("train", str(cases() / name), "-o", "m", folder=tmp_path)
    is_refused = name.startswith(("03_every", "09_lfs", "09_no_header"))
    assert run.returncode == (1 if is_refused else 0), run.stderr
    assert says in run.stderr
    other_lines = [line for line in run.stderr.splitlines() if "rolled back" not in line]
    assert len(other_lines) == (1 if says else 0)


@pytest.mark.skipif(not cases().is_dir(), reason="no shared cases: set TAMIS_SHARED")
def test_shared_case_renames_labels_when_the_column_says_so(tmp_path: Path) -> None:
    file = str(cases() / "04_labels_renamed_silently.csv")
    run: subprocess.CompletedProcess[str] = tamis(
        "train", file, "--label-column", "spam", "-o", "m", folder=tmp_path
    )
    assert "labels renamed as in the recovered rows: '0' to 'ham', '1' to 'spam'" in run.stderr
