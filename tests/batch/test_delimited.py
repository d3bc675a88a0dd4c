"""Blocks of delimited text: cut where records end, and parsed alike by both parsers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tamis.batch.blocks import cut_records
from tamis.batch.delimited import CsvDialect, DelimitedParser

PIECES = st.lists(
    st.sampled_from(
        ['"', '""', ",", "\n", "\r", "\r\n", "a", "é", "𝒳", " ", "\\", '\\"', "\\\\", ";", "x y"]
    ),
    max_size=40,
)
DIALECTS = [CsvDialect(","), CsvDialect(";"), CsvDialect(",", is_escaped=True)]


def records(dialect: CsvDialect, text: str) -> list[list[str]]:
    """Return the records that training reads, without blank lines."""
    return [cells for cells in dialect.rows(io.StringIO(text, newline="")) if cells]


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@given(pieces=PIECES, size=st.integers(1, 30))
@example(pieces=['a,"b\n"', "\r", "\n", '"x', "\n", 'y",z'], size=3)
def test_cut_records_read_as_the_whole_text(dialect: CsvDialect, pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    data = text.encode()
    chunks = (data[i : i + 7] for i in range(0, len(data), 7))
    cuts = list(cut_records(chunks, size, dialect.last_record, Path("in.csv")))
    assert b"".join(cut.data for cut in cuts) == data
    assert [cut.offset for cut in cuts] == [sum(len(c.data) for c in cuts[:i]) for i in range(len(cuts))]
    found = [cells for cut in cuts for cells in records(dialect, cut.data.decode())]
    assert found == records(dialect, text)


@given(pieces=PIECES, is_last=st.booleans())
@example(pieces=['a,"b', "\n", "c"], is_last=True)
@example(pieces=["﻿", "a,b"], is_last=False)
def test_both_parsers_read_the_same_cells(pieces: list[str], is_last: bool) -> None:
    data = "".join(pieces).encode()
    if not is_last:  # blocks end with a record
        data = data[: CsvDialect(",").last_record(data)]
    parser = DelimitedParser(CsvDialect(","), ("id", "text"), 1, (0, 1))
    fast, careful = parser.parse(data, is_last=is_last), parser.parse_row_by_row(data)
    assert fast.texts.to_pylist() == careful.texts.to_pylist()
    assert fast.kept.to_pylist() == careful.kept.to_pylist()
    assert (fast.n_rows, list(fast.rejected)) == (careful.n_rows, list(careful.rejected))


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=20)), max_size=8))
def test_written_rows_are_read_back(rows: list[tuple[str, str]]) -> None:
    rows = [tuple(cell.encode("utf-8", "replace").decode() for cell in row) for row in rows]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    parsed = DelimitedParser(CsvDialect(","), ("id", "text"), 1, (0, 1)).parse(
        file.getvalue().encode(), is_last=False
    )
    assert parsed.kept.to_pylist() == [{"id": first, "text": second} for first, second in rows]
    assert list(parsed.rejected) == []
