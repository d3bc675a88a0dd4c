"""Delimited text in blocks: where records end, and the rows of a block as columns.

pyarrow parses blocks in which every row has all cells. A block with any other row is parsed by Python's
`csv`, as training reads it, and gives each bad row its reason; both give the same cells for the same bytes.
"""

from __future__ import annotations

import csv
import ctypes
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import csv as arrow_csv

from tamis.batch.blocks import MAX_RECORD_BYTES, BlockParser, ParsedBlock, Rejection, record_batch
from tamis.data.delimited import literal_backslashes
from tamis.native import check, native_library

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CsvDialect:
    """How cells are separated, and whether a backslash escapes a quote."""

    delimiter: str
    is_escaped: bool = False

    def rows(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Yield the cells of each record, as the reader of labelled data does; a blank line has none."""
        # the limit of `csv` is global: never lower it for others
        csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
        if self.is_escaped:
            return csv.reader(literal_backslashes(lines), delimiter=self.delimiter, escapechar="\\")
        return csv.reader(lines, delimiter=self.delimiter)

    def last_record(self, data: bytes) -> int:
        """Return the offset of the last record that begins in `data`, which begins with one."""
        library = native_library()
        # the native search knows plain quotes and a delimiter of one byte
        if library is None or self.is_escaped or not self.delimiter.isascii():
            return max(self._starts(data), default=0)
        found = ctypes.c_size_t()
        check(library.last_record(data, len(data), ord(self.delimiter), ctypes.byref(found)))
        return found.value

    def first_record(self, data: bytes) -> int:
        """Return the length of the first record of `data`."""
        starts = self._starts(data)
        next(starts, None)
        return next(starts, len(data))

    def _starts(self, data: bytes) -> Iterator[int]:
        """Yield the offset of each record, blank lines being records."""
        is_ascii = self.delimiter.isascii()  # then one character per byte gives the ends of records
        text = data.decode("latin-1" if is_ascii else "utf-8", "surrogateescape")
        position = 0

        def counted() -> Iterator[str]:
            nonlocal position
            for line in io.StringIO(text, newline=""):
                position += len(line) if is_ascii else len(line.encode("utf-8", "surrogateescape"))
                yield line

        start = 0
        for _ in self.rows(counted()):
            yield start
            start = position


@dataclass(frozen=True)
class DelimitedParser(BlockParser):
    """Reads the blocks after the header.

    columns: names of all columns
    text:    index of the text column
    kept:    indices of the columns that are carried through
    """

    dialect: CsvDialect
    columns: tuple[str, ...]
    text: int
    kept: tuple[int, ...]

    def parse(self, data: bytes, *, is_last: bool) -> ParsedBlock:
        """Return the rows of a block."""
        dialect = self.dialect
        can_be_unclosed = is_last and self._ends_inside_quotes(data)
        # what pyarrow reads differently from `csv`
        is_unusual = dialect.is_escaped or not dialect.delimiter.isascii() or data.startswith(_BOM)
        if is_unusual or can_be_unclosed:
            return self.parse_row_by_row(data)
        return self._parse_regular(data) or self.parse_row_by_row(data)

    def schema(self) -> Any:
        """Return the Arrow schema of the kept columns: all are text."""
        return pyarrow.schema([(self.columns[i], pyarrow.string()) for i in self.kept])

    def _ends_inside_quotes(self, data: bytes) -> bool:
        """Return whether the last record opens a quote that the end of the file leaves open."""
        lines = _BlockLines(data[self.dialect.last_record(data) :])
        return any(lines.is_unclosed for _ in self.dialect.rows(lines))

    def _parse_regular(self, data: bytes) -> ParsedBlock | None:
        """Return the rows if each has all cells and is valid UTF-8, else None."""
        names = [f"c{i}" for i in range(len(self.columns))]
        wanted = [names[i] for i in dict.fromkeys((self.text, *self.kept))]
        try:
            table = arrow_csv.read_csv(
                pyarrow.BufferReader(data),
                # one block, one thread: rows may not be cut, and workers share the cores already
                arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
                arrow_csv.ParseOptions(delimiter=self.dialect.delimiter, newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pyarrow.string()),
                    # as `csv` reads them: NULL and NA are texts
                    strings_can_be_null=False,
                ),
            )
        # a row without all cells, or not UTF-8: parsed again row by row, so that only such rows are rejected
        except pyarrow.ArrowInvalid:
            return None
        columns = {name: _one_array(table.column(name)) for name in wanted}
        kept = [columns[names[i]] for i in self.kept]
        batch = record_batch(kept, self.schema(), table.num_rows)
        return ParsedBlock(columns[names[self.text]], batch, None, table.num_rows)

    def parse_row_by_row(self, data: bytes) -> ParsedBlock:
        """Return the rows as `csv` reads them, whatever is wrong with some."""
        wanted = tuple(dict.fromkeys((self.text, *self.kept)))
        cells_of: dict[int, list[str]] = {i: [] for i in wanted}
        numbers: list[int] = []
        rejected: list[Rejection] = []
        lines = _BlockLines(data)
        n_rows, width = 0, len(self.columns)
        for cells in self.dialect.rows(lines):
            # a blank line is no row
            if not cells or (len(cells) == 1 < width and not cells[0].strip()):
                continue
            n_rows += 1
            reason = self._problem(cells, wanted, lines)
            if reason:
                rejected.append(Rejection(n_rows, reason))
                continue
            numbers.append(n_rows)
            for i in wanted:
                cells_of[i].append(cells[i] if i < len(cells) else "")
        arrays = {i: pyarrow.array(values, pyarrow.string()) for i, values in cells_of.items()}
        kept = record_batch([arrays[i] for i in self.kept], self.schema(), len(numbers))
        return ParsedBlock(arrays[self.text], kept, numbers, n_rows, rejected)

    def _problem(self, cells: list[str], wanted: Sequence[int], lines: _BlockLines) -> str | None:
        """Return why a row cannot be used, None if it can."""
        width = len(self.columns)
        if lines.is_unclosed:
            return "a quote is opened and never closed; double it"
        if len(cells) <= self.text:
            return f"the text is missing: the row has {len(cells)} of {width} cells"
        if any(cells[width:]):
            return f"{len(cells)} cells for {width} columns; quote a text that holds the delimiter or a quote"
        if any(not cells[i].isascii() and _has_undecoded(cells[i]) for i in wanted if i < len(cells)):
            return "not valid UTF-8"
        return None


class _BlockLines(Iterator[str]):
    """The lines of a block; bytes that are not UTF-8 become unpaired surrogates.

    `is_unclosed`: whether the reader asked for more after the last line, which it does inside of a quote.
    """

    def __init__(self, data: bytes):
        self._lines = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
        self.is_unclosed = False

    def __next__(self) -> str:
        line = self._lines.readline()
        if line:
            return line
        self.is_unclosed = True
        raise StopIteration


def _has_undecoded(cell: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in cell)


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
