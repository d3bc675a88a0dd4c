"""Every format that a labelled file may have, and files that only look like one."""

from __future__ import annotations

import gzip
import io
import json
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.data.reader import ReadResult, read_dataset
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import DataError

ROWS = [
    (label, f"{text} {number}")
    for number in range(3)
    for label, text in [
        ("spam", "call now for a cheap loan"),
        ("ham", "see you at six, then"),
        ("spam", "you are chosen: reply STOP"),
        ("ham", "the keys are on the table"),
    ]
]
CSV = "label,text\n" + "".join(f'{label},"{text}"\n' for label, text in ROWS)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def read(folder: Path, content: str | bytes, name: str = "data.csv", **options: object) -> ReadResult:
    return read_dataset(write(folder, name, content), ReadOptions(**options))  # type: ignore[arg-type]


def refusal(folder: Path, content: str | bytes, name: str = "data.csv", **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(folder / name))


def assert_rows(result: ReadResult) -> None:
    assert list(zip(result.dataset.labels, result.dataset.texts, strict=True)) == ROWS
    assert list(result.dataset.rows) == list(range(1, len(ROWS) + 1))


def delimited(delimiter: str, *, first: str = "") -> str:
    lines = [delimiter.join(cells) for cells in [("label", "text"), *ROWS]]
    return first + "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize(
    ("content", "assumed"),
    [
        (CSV, ()),
        (gzip.compress(CSV.encode()), ()),
        (delimited("|"), ("delimiter '|'",)),
        (delimited("\t"), ("delimiter '\\t'",)),
        (delimited("|", first="sep=|\r\n"), ("delimiter '|'",)),
        (delimited("^", first='"sep=^"\n'), ("delimiter '^'",)),
        (
            "".join(json.dumps({"text": text, "id": 3, "label": label}) + "\n" for label, text in ROWS),
            ("JSON lines",),
        ),
        (
            "".join(f"__label__{label} {text}\n" for label, text in ROWS),
            ("lines of __label__NAME and a text",),
        ),
        (CSV.encode("utf-16"), ()),
        (CSV.encode("utf-16-le"), ()),
        (CSV.encode("utf-16-be"), ()),
        (gzip.compress(CSV.encode("utf-8-sig")), ()),
    ],
    ids=range(12),
)
def test_rows_are_the_same_when_the_format_differs(
    tmp_path: Path, content: str | bytes, assumed: tuple[str, ...]
) -> None:
    result = read(tmp_path, content)
    assert_rows(result)
    assert result.assumed == assumed


def test_workbook_is_read_when_openpyxl_is_there(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="the extra excel is not installed")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    for cells in [("label", "text", "n"), *((label, text, 1.0) for label, text in ROWS), (None, None, None)]:
        sheet.append(cells)
    book.create_sheet("Notes").append(["nothing"])
    book.save(tmp_path / "data.xlsx")
    result = read_dataset(tmp_path / "data.xlsx", ReadOptions(Columns(group="n")))
    assert_rows(result)
    assert result.assumed == ("sheet 'Data' (the first of 2)",)
    assert result.dataset.groups is not None
    assert set(result.dataset.groups) == {"1"}, "a whole number is written without a point"


def test_parquet_is_read_when_pyarrow_is_there(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    labels, texts = zip(*ROWS, strict=True)
    nested = [[1, 2]] * len(ROWS)
    table = pyarrow.table({"more": nested, "label": pyarrow.array(labels).dictionary_encode(), "text": texts})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert_rows(read_dataset(tmp_path / "data.parquet"))
    message = refusal(tmp_path, (tmp_path / "data.parquet").read_bytes(), columns=Columns(text="more"))
    assert message == ", row 1, column 'more': must be text or a number"


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("a.xlsx", "openpyxl", "excel"), ("a.parquet", "pyarrow", "parquet")]
)
def test_missing_extra_is_named_when_a_format_needs_one(
    tmp_path: Path, name: str, module: str, extra: str
) -> None:
    import subprocess

    content = io.BytesIO(b"PAR1")
    if extra == "excel":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("xl/workbook.xml", "")
    file = write(tmp_path, name, content.getvalue())
    start = f"import sys; sys.modules[{module!r}] = None; from tamis.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "audit", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"pip install 'tamis[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 4\n",
            ": is a Git LFS pointer, not the data; get it with `git lfs pull`",
        ),
        (
            "<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
            ": is an HTML page, not a table; download or export the data file itself",
        ),
        ("%PDF-1.4 …", ": is a PDF document; export the table in it as CSV"),
        ("[\n{}\n]", ": is one JSON array; write one object per line instead: jq -c '.[]'"),
        ("{\n}\n", ": line 1 is not a JSON object; write one object per line"),
        (
            '{"label": ["a"], "text": "b"}\n',
            ", row 1, column 'label': must be text or a number (line 1 of the file)",
        ),
        (
            "__label__a one\n__label__a __label__b two\n",
            ", row 2: has several labels; keep one label per text (line 2 of the file)",
        ),
        (
            gzip.compress(CSV.encode())[:-20],
            ": is a damaged or incomplete gzip file; download or compress it again",
        ),
        (b"PAR1", ": is a damaged Parquet file; write it again"),
        (b"\x89PNG\r\n\x1a\n", ": is an image; name a file of labels and texts"),
        (
            "".join(f"{label},{text.replace(',', '')}\n" for label, text in ROWS),
            ": the first line is a row, not column names; add a header `label,text`, or use --no-header",
        ),
    ],
    ids=range(11),
)
def test_file_is_named_for_what_it_is_when_it_holds_no_rows(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    if content == b"PAR1":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    assert refusal(tmp_path, content) == message


def test_archive_is_named_when_it_is_no_workbook(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data.csv", CSV)
    assert refusal(tmp_path, content.getvalue()) == ": is a zip archive; unpack it and name the file inside"


def test_columns_are_numbered_when_there_is_no_header(tmp_path: Path) -> None:
    result = read(tmp_path, CSV.removeprefix("label,text\n"), has_header=False)
    assert_rows(result)
    assert result.assumed == ("label column '1'", "text column '2'")


def test_short_and_wide_rows_are_read_when_needed_cells_there(tmp_path: Path) -> None:
    content = 'label,text,note,note,"seen\n(optional)"\nham,a b\nspam,c d,x,y,z\nham,e f,,,,,\n,,,,\n'
    result = read(tmp_path, content)
    assert list(result.dataset.texts) == ["a b", "c d", "e f"]
    assert result.header == ("label", "text", "note", "note", "seen (optional)")


def test_backslash_escapes_are_resolved_when_quotes_need_them(tmp_path: Path) -> None:
    content = r"""label,text
ham,"she asked \"why\", twice"
spam,"C:\\new folder\n stays"
ham,"plain ""doubled"" too"
"""
    result = read(tmp_path, content)
    assert list(result.dataset.texts) == [
        'she asked "why", twice',
        r"C:\new folder\n stays",
        'plain "doubled" too',
    ]
    assert result.assumed == ('quotes escaped by a backslash (\\")',)
    assert read(tmp_path, 'label,text\nham,"C:\\dir\\"\nspam,"\\""x"""\n').dataset.texts == [
        "C:\\dir\\",
        '\\"x"',
    ]


TEXTS = st.text(alphabet=st.sampled_from(list('ab ,;|\t\\"\r\n')), max_size=12)


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_texts_come_back_when_quotes_are_escaped(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "escaped.csv"
    escaped = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    file.write_bytes(("label,text\n" + "".join(f'x-label,"{text}"\n' for text in escaped)).encode())
    options = ReadOptions(escape="backslash", delimiter=",")
    assert list(read_dataset(file, options, repair=False).dataset.texts) == texts


def test_row_that_ends_before_its_label_is_unlabelled(tmp_path: Path) -> None:
    content = "text,note,label\nsee you,,ham\nno label here\nor here,x\nWIN,,spam\n"
    with pytest.raises(DataError, match="use --skip-unlabelled"):
        read(tmp_path, "text,label\nsee you,ham\nno label here\n")
    result = read(tmp_path, content, skip_unlabelled=True)
    assert (result.dataset.texts, [*result.dataset.rows]) == (["see you", "WIN"], [1, 4])
    assert result.unlabelled == 2


def test_unlabelled_rows_are_left_out_when_asked_for(tmp_path: Path) -> None:
    content = "label,text,source\nham,one,a\n ,two,a\nspam,three,b\n,four,b\n"
    message = refusal(tmp_path, content)
    assert message == (
        ", row 2, column 'label': 2 rows have no label (the first on line 3); "
        "add them, or use --skip-unlabelled"
    )
    result = read(tmp_path, content, skip_unlabelled=True)
    assert list(result.dataset.texts) == ["one", "three"]
    assert list(result.dataset.rows) == [1, 3]
    assert (result.unlabelled, result.assumed) == (2, ("2 rows without a label left out",))


def test_several_files_are_one_data_set_when_named_together(tmp_path: Path) -> None:
    first = write(tmp_path, "one.csv", "label,text\nham,a b\nspam,c d\n")
    second = write(tmp_path, "two.tsv", "text\tlabel\ne f\tham\n")
    result = read_dataset([first, second])
    assert list(result.dataset.labels) == ["ham", "spam", "ham"]
    assert list(result.dataset.rows) == [1, 2, 3]
    assert result.assumed == ("delimiter '\\t' in two.tsv",)
    assert result.sha256 not in (read_dataset(first).sha256, read_dataset(second).sha256)


def test_source_is_ignored_when_its_values_are_hardly_repeated(tmp_path: Path) -> None:
    rows = "".join(f"ham,hello {n},https://news.example/{n}\n" for n in range(40))
    result = read(tmp_path, "label,text,source\n" + rows)
    assert result.dataset.sources is None
    assert result.assumed == ("column 'source' ignored: too many different values for a source",)


def test_html_is_removed_from_texts_when_asked_for(tmp_path: Path) -> None:
    content = "label,text\nham,<p>Tom &amp; <b>Ann</b></p>\n"
    result = read(tmp_path, content, strip_html=True)
    assert [text.strip() for text in result.dataset.texts] == ["Tom & Ann"]
    assert result.assumed == ("HTML removed from texts",)


def test_a_line_without_end_is_refused_when_it_is_huge(tmp_path: Path) -> None:
    file = tmp_path / "huge.csv"
    with file.open("wb") as stream:
        stream.write(b"label,text\nham,")
        stream.truncate(80 << 20)
        for _ in range(66):
            stream.write(b"x" * (1 << 20))
    with pytest.raises(DataError, match="has a line of more than 64 MB"):
        read_dataset(file)
