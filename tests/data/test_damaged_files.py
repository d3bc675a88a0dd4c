"""Files that are damaged or hostile: refused in one line or read, soon, and never with another error."""

from __future__ import annotations

import gzip
import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.audit import audit
from tamis.data.reader import read_dataset, read_texts
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import DataError, TamisError

ROWS = [("spam" if n % 3 else "ham", f'text number {n}, said \\"she\\" é') for n in range(20)]


def as_parquet() -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    content = io.BytesIO()
    labels, texts = zip(*ROWS, strict=True)
    parquet.write_table(pyarrow.table({"label": labels, "text": texts}), content)
    return content.getvalue()


def as_workbook() -> bytes:
    openpyxl = pytest.importorskip("openpyxl", reason="the extra excel is not installed")
    book = openpyxl.Workbook()
    for cells in [("label", "text"), *ROWS]:
        book.active.append(cells)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


CSV = ("label,text\n" + "".join(f'{label},"{text}"\n' for label, text in ROWS)).encode()
SEEDS = {
    "csv": CSV,
    "gzip": gzip.compress(CSV, mtime=0),
    "utf16": CSV.decode().encode("utf-16"),
    "jsonl": b"".join(
        b'{"label": "%b", "text": "t %d"}\n' % (b"ab"[n % 2 : n % 2 + 1], n) for n in range(20)
    ),
    "fasttext": b"".join(b"__label__%b some text %d\n" % (b"ab"[n % 2 : n % 2 + 1], n) for n in range(20)),
}
PIECES = [b'"', b'\\"', b"\n", b"\r", b",", b";", b"\t", b"|", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"\xe9"]
EDIT = st.tuples(st.integers(0, 10_000), st.integers(0, 30), st.sampled_from([*PIECES, b'"' * 50]))
OPTIONS = st.builds(
    ReadOptions,
    columns=st.sampled_from([Columns(), Columns("label", "text"), Columns(group="text")]),
    encoding=st.sampled_from([None, None, "utf-8", "utf-16", "cp1252"]),
    delimiter=st.sampled_from([None, None, "tab", "|"]),
    escape=st.sampled_from(["auto", "backslash", "none"]),
    has_header=st.booleans(),
    skip_unlabelled=st.booleans(),
    strip_html=st.booleans(),
)


@pytest.mark.parametrize("seed", [*SEEDS, "parquet", "workbook"])
@settings(max_examples=60, deadline=None)
@given(edits=st.lists(EDIT, max_size=5), options=OPTIONS)
def test_file_is_read_or_refused_in_one_line_when_damaged(
    tmp_path_factory: pytest.TempPathFactory,
    seed: str,
    edits: list[tuple[int, int, bytes]],
    options: ReadOptions,
) -> None:
    makers = {"parquet": as_parquet, "workbook": as_workbook}
    content = bytearray(makers[seed]() if seed in makers else SEEDS[seed])
    for position, removed, inserted in edits:
        start = position % (len(content) + 1)
        content[start : start + removed] = inserted
    file = tmp_path_factory.getbasetemp() / "damaged.bin"
    file.write_bytes(content)
    try:
        data = read_dataset(file, options).dataset
        assert len(data.texts) == len(data.labels) == len(data.rows) > 0
        assert all(label == label.strip() != "" for label in data.labels)
    except TamisError as refused:
        assert "\n" not in str(refused)
    try:
        list(read_texts(file, options))
    except TamisError as refused:
        assert "\n" not in str(refused)


@pytest.mark.alone
@pytest.mark.parametrize("part", ["\u0301\u0323", "<a ", "\\\\", "\n", "1,2,3\n", '""', "ham\tx\n"])
def test_audit_takes_seconds_when_one_text_is_hostile(tmp_path: Path, part: str) -> None:
    file = tmp_path / "data.csv"
    rows = "".join(f"{'spam' if n % 2 else 'ham'},text number {n}\n" for n in range(200))
    file.write_text(f'label,text\n{rows}ham,"a{part * 30_000}"\n', encoding="utf-8")
    started = time.perf_counter()
    audit(read_dataset(file))
    assert time.perf_counter() - started < 10


def test_open_quote_is_named_when_a_field_gets_too_large(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    with file.open("w") as stream:
        stream.write('label,text\nham,"never closed\n')
        for _ in range(70):
            stream.write("x" * 100 + "\n" + ("some more words\n" * 65_536))
    with pytest.raises(DataError, match=r"field larger than field limit .* is a quote opened there"):
        read_dataset(file)
