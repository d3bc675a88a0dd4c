"""Inputs that are damaged, enormous or odd: read right, rejected row by row, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tamis.batch.inputs import find_inputs
from tamis.errors import DataError
from tests.support.samples import messages
from tests.support.score_runs import assert_predictions, score_here

TEXTS = list(messages(120, seed=21).texts)
ROWS = "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS, 1))


def write(folder: Path, contents: str | bytes, name: str = "in.csv") -> None:
    data = contents.encode() if isinstance(contents, str) else contents
    (folder / name).write_bytes(data)


def refusal(model: Path, *names: str, folder: Path, **settings: object) -> str:
    with pytest.raises(DataError) as refused:
        score_here(model, *names, folder=folder, **settings)
    assert not (folder / "out.parquet").exists()
    return str(refused.value).replace(str(folder), "…")


def test_giant_field_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("wb") as file:
        file.write(b'id,text\n1,"')
        for _ in range(1024):
            file.write(b"x" * (1 << 20))
        file.write(b'"\n')
    assert refusal(model, "in.csv", folder=tmp_path) == (
        "…/in.csv: has a line of more than 64 MB; write one row per line"
    )


def test_quote_never_closed_over_64_mb_is_refused(model: Path, tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("wb") as file:
        file.write(b'id,text\n1,fine\n2,"opened\n')
        for _ in range(70):
            file.write((b"3,a short text\n" * 70_000)[: 1 << 20])
    said = refusal(model, "in.csv", folder=tmp_path)
    assert (
        said == "…/in.csv: the row at byte 7 is longer than 64 MB; is a quote opened there and never closed?"
    )


def test_long_field_is_rejected_with_its_row(model: Path, tmp_path: Path) -> None:
    write(tmp_path, f"id,text\n{ROWS}200,{'word ' * 50_000}\n201,{TEXTS[0]}\n")
    table, rejected = score_here(model, "in.csv", folder=tmp_path, max_characters=10_000)
    assert_predictions(table, [*TEXTS, TEXTS[0]], model)
    assert rejected == [["in.csv", "121", "over 10,000 characters"]]


def test_nul_byte_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    write(tmp_path, f"id,text\n{ROWS}".replace("1,", "1\0,", 1))
    assert refusal(model, "in.csv", folder=tmp_path) == (
        "…/in.csv: is binary, not text: byte 9 is NUL; save it as CSV in UTF-8"
    )


def test_nul_character_in_parquet_is_scored(model: Path, tmp_path: Path) -> None:
    texts = ["a\0b", "\0", *TEXTS]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "in.parquet")
    table, rejected = score_here(model, "in.parquet", folder=tmp_path)
    assert rejected == []
    assert_predictions(table, texts, model)


def test_mixed_encodings_reject_the_rows_concerned(model: Path, tmp_path: Path) -> None:
    good = "".join(f'{n},"Émile schläft: {text}"\n' for n, text in enumerate(TEXTS, 1))
    write(tmp_path, f"id,text\n{good}".encode() + "500,café au lait\n".encode("cp1252") + b"501,the end\n")
    table, rejected = score_here(model, "in.csv", folder=tmp_path)
    assert rejected == [["in.csv", "121", "not valid UTF-8"]]
    assert table.column("id").to_pylist()[-2:] == ["120", "501"]


def test_ten_thousand_columns_come_through(model: Path, tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(9_998)]
    row = ",".join(map(str, range(9_998)))
    body = "".join(f'{n},"{text}",{row}\n' for n, text in enumerate(TEXTS[:20]))
    write(tmp_path, f"id,text,{','.join(names)}\n{body}")
    table, rejected = score_here(model, "in.csv", folder=tmp_path)
    assert table.num_columns == 10_003
    assert table.column("c9997").to_pylist() == ["9997"] * 20
    assert_predictions(table, TEXTS[:20], model)
    assert rejected == []


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\n\n\n"])
def test_any_end_of_file_gives_the_last_row(ending: bytes, model: Path, tmp_path: Path) -> None:
    write(tmp_path, f"id,text\n{ROWS}".encode().removesuffix(b"\n") + ending)
    table, rejected = score_here(model, "in.csv", folder=tmp_path)
    assert_predictions(table, TEXTS, model)
    assert rejected == []


def test_quote_never_closed_is_rejected_at_its_row(model: Path, tmp_path: Path) -> None:
    write(tmp_path, f'id,text\n{ROWS}200,"never closed\n201,in it\n')
    table, rejected = score_here(model, "in.csv", folder=tmp_path)
    assert_predictions(table, TEXTS, model)
    assert rejected == [["in.csv", "121", "a quote is opened and never closed; double it"]]


def test_bad_rows_are_numbered_across_parts(model: Path, tmp_path: Path) -> None:
    lines = ROWS.splitlines()
    for at, line in ((0, "x"), (60, 'x,"two",three'), (100, "x,"), (122, "x,   ")):
        lines.insert(at, line)
    write(tmp_path, "id,text\n" + "\n".join(lines) + "\n")
    table, rejected = score_here(model, "in.csv", folder=tmp_path, block_bytes=700)
    assert_predictions(table, TEXTS, model)
    assert [(number, reason.partition(":")[0]) for _, number, reason in rejected] == [
        ("1", "the text is missing"),
        ("61", "3 cells for 2 columns; quote a text that holds the delimiter or a quote"),
        ("101", "no text"),
        ("123", "no text"),
    ]


def test_bad_json_lines_are_rejected_with_reasons(model: Path, tmp_path: Path) -> None:
    bad = {
        "{": "not valid JSON",
        "[1]": "not a JSON object",
        '{"text": {"a": 1}, "n": 1}': "the text is an object or a list",
        '{"text": "a", "n": "one"}': "field 'n' is not a whole number of 64 bits, as it is in the first rows",
        '{"n": 3}': "no text",
        '{"text": "\\ud83d", "n": 3}': "not valid JSON",
    }
    good = "".join(f'{{"text": "{text}", "n": {n}}}\n' for n, text in enumerate(TEXTS * 2))
    write(tmp_path, good + "".join(line + "\n" for line in bad), "in.jsonl")
    table, rejected = score_here(model, "in.jsonl", folder=tmp_path)
    assert_predictions(table, TEXTS * 2, model)
    assert [reason for *_, reason in rejected] == list(bad.values())
    assert [number for _, number, _ in rejected] == [str(n) for n in range(241, 247)]


@pytest.mark.parametrize("kind", ["dictionary", "large_string", "string_view", "binary", "plain"])
def test_parquet_text_of_any_type_is_scored(kind: str, model: Path, tmp_path: Path) -> None:
    texts: list[str | None] = [None, *TEXTS, "", None]
    column = pyarrow.array(texts)
    types = {
        "large_string": pyarrow.large_string(),
        "string_view": pyarrow.string_view(),
        "binary": pyarrow.binary(),
    }
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(types.get(kind, column.type))
    table = pyarrow.table({"text": column, "n": range(len(texts))})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=50)
    found, rejected = score_here(model, "in.parquet", folder=tmp_path)
    assert_predictions(found, TEXTS, model)
    assert found.column("n").to_pylist() == list(range(1, len(TEXTS) + 1))
    assert rejected == [["in.parquet", str(n), "no text"] for n in (1, len(texts) - 1, len(texts))]


def test_parquet_text_of_numbers_is_scored_as_text(model: Path, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": [1.5, None, 2.0]}), tmp_path / "in.parquet")
    found, rejected = score_here(model, "in.parquet", folder=tmp_path)
    assert_predictions(found, ["1.5", "2.0"], model)
    assert rejected == [["in.parquet", "2", "no text"]]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("in.csv", b"", "…/in.csv: is empty; its first line must name the columns"),
        ("in.jsonl", b"\n\n", "…/in.jsonl: is empty; its first line must name the columns"),
        ("in.parquet", b"PAR1", "…/in.parquet: is a damaged Parquet file; write it again"),
        ("in.arrow", b"ARROW1\0\0", "…/in.arrow: is a damaged Arrow file; write it again"),
        ("in.csv.gz", gzip.compress(ROWS.encode())[:-9], "…/in.csv.gz: is a damaged or incomplete gzip file"),
        ("in.csv", b"%PDF-1.7", "…/in.csv: is a PDF document; export the table in it as CSV"),
        ("in.txt", b"__label__ham hello\n", "…/in.txt: holds fastText label lines"),
    ],
)  # fmt: skip
def test_unusable_file_is_refused_by_name(
    name: str, contents: bytes, message: str, model: Path, tmp_path: Path
) -> None:
    write(tmp_path, contents, name)
    assert refusal(model, name, folder=tmp_path).startswith(message)


def test_file_without_rows_gives_output_without_rows(model: Path, tmp_path: Path) -> None:
    write(tmp_path, "id,text\n")
    table, rejected = score_here(model, "in.csv", folder=tmp_path)
    assert (table.num_rows, table.column_names[:2], rejected) == (0, ["id", "text"], [])


def test_files_of_other_columns_are_refused_by_name(model: Path, tmp_path: Path) -> None:
    write(tmp_path, f"id,text\n{ROWS}", "a.csv")
    write(tmp_path, f"number,text\n{ROWS}", "b.csv")
    said = refusal(model, "a.csv", "b.csv", folder=tmp_path)
    assert said.startswith("…/b.csv: differs from …/a.csv in column 'id'; choose columns that all files have")
    table, _ = score_here(model, "a.csv", "b.csv", folder=tmp_path, keep=("text",))
    assert_predictions(table, TEXTS * 2, model)


def test_input_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "*.csv"):
        with pytest.raises(DataError, match="no input file found"):
            find_inputs([str(tmp_path / name)])
