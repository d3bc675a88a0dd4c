"""Files as tables, read row by row: delimited text, JSON lines, fastText's label lines, Excel, Parquet.

The first line of a text file decides which format it is. Errors name row and line. openpyxl and pyarrow
are imported when a file needs them. Independent of labels and texts.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from xml.etree.ElementTree import ParseError

import msgspec

from tamis.data.delimited import DelimitedTable, Lines
from tamis.data.inspection import InspectedFile
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, DataTable, Needed, ReadOptions, Record
from tamis.errors import DataError, MissingExtraError
from tamis.types import Progress

PREFIX = "__label__"


@contextmanager
def open_text_table(facts: InspectedFile, options: ReadOptions, progress: Progress) -> Iterator[DataTable]:
    """Open the text file of `facts` for as long as the block runs."""
    stream, file = facts.open_text()
    with stream, file:
        lines = Lines(stream, file, facts.path, size_bytes=facts.size_bytes, progress=progress)
        yield _table(lines, facts, options)


def _table(lines: Lines, facts: InspectedFile, options: ReadOptions) -> DataTable:
    # blank lines before the header name no columns
    while (first := lines.peek(1)) and not first[0].strip():
        lines.skip()
    if not first:
        raise DataError("is empty; its first line must name the columns", file=facts.path)
    start = first[0].lstrip()
    # a named delimiter decides: a text may begin like one of the other formats
    if options.delimiter is None:
        if start.startswith("{"):
            return JsonLinesTable(lines)
        if start.startswith(PREFIX):
            return LabelLinesTable(lines)
        if start.startswith(("[{", "[\n", "[\r")) or start == "[":
            problem = "is one JSON array; write one object per line instead: jq -c '.[]'"
            raise DataError(problem, file=facts.path)
    return DelimitedTable(lines, facts, options)


class JsonLinesTable(DataTable):
    """Objects as rows; the columns are the fields of the first 200 objects."""

    assumed = ("JSON lines",)

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode
        first = lines.peek(SAMPLE_ROWS)
        self.first_objects = [
            self._object(line, n) for n, line in enumerate(first, lines.first_line) if line.strip()
        ]
        # an object may lack fields, so the names of many are collected
        self.columns = tuple(dict.fromkeys(name for one in self.first_objects for name in one))

    def sample(self) -> list[Sequence[str]]:
        """Return the values of the first objects as text, nested ones as nothing."""
        return [[value_text(one.get(name)) or "" for name in self.columns] for one in self.first_objects]

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield every object; raise DataError if a needed field is an object or a list."""
        columns = self.columns
        # fields that nobody asked for may be nested
        indices = (needed.label, needed.text, *needed.others)
        for row, number, line in self._lines.rows():
            found = self._object(line, number)
            cells = [""] * len(columns)
            for i in indices:
                cell = value_text(found.get(columns[i]))
                if cell is None:
                    problem = f"must be text or a number (line {number} of the file)"
                    raise DataError(problem, file=self._lines.path, row=row, column=columns[i])
                cells[i] = cell
            yield Record(row, number, cells)

    def _object(self, line: str, number: int) -> dict[str, Any]:
        try:
            return self._decode(line)
        # msgspec encodes the line first, which fails for an unpaired surrogate
        except (msgspec.DecodeError, UnicodeEncodeError):
            problem = f"line {number} is not a JSON object; write one object per line"
            raise DataError(problem, file=self._lines.path) from None


class LabelLinesTable(DataTable):
    """Lines of one label and a text as a table of two columns."""

    columns = ("label", "text")
    assumed = (f"lines of {PREFIX}NAME and a text",)

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def sample(self) -> list[Sequence[str]]:
        """Return the first lines, cut in two."""
        return [_cut(line) for line in self._lines.peek(SAMPLE_ROWS) if line.strip()]

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield the lines that are not blank; raise DataError for a line of several labels."""
        for row, number, line in self._lines.rows():
            cells = _cut(line)
            if cells[1].startswith(PREFIX):
                problem = "has several labels; keep one label per text"
                raise DataError(f"{problem} (line {number} of the file)", file=self._lines.path, row=row)
            yield Record(row, number, cells)


def _cut(line: str) -> tuple[str, str]:
    line = line.strip()
    if not line.startswith(PREFIX):
        return "", line
    label, _, text = line.removeprefix(PREFIX).partition(" ")
    if "\t" in label:  # some files separate label and text by a tab
        label, _, text = line.removeprefix(PREFIX).partition("\t")
    return label, text.strip()


# few enough for constant memory, enough that reading is not dominated by pyarrow's calls
_BATCH_ROWS = 4096


@contextmanager
def open_workbook(facts: InspectedFile, options: ReadOptions, progress: Progress) -> Iterator[DataTable]:
    """Open the workbook of `facts`; raise MissingExtraError without openpyxl."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise MissingExtraError(f"reading {facts.path} (.xlsx)", "excel") from None
    try:
        # read_only streams the rows; data_only gives the results of formulas
        book = openpyxl.load_workbook(facts.path, read_only=True, data_only=True)
    # openpyxl lets the errors of its parsers through: KeyError is a missing member of the archive
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, ParseError) as broken:
        problem = "is a damaged or protected workbook; save it again, or save the sheet as CSV"
        raise DataError(problem, file=facts.path) from broken
    try:
        yield WorkbookTable(book, facts, options)
        # a row of an archive has no position in the file
        progress(facts.size_bytes, facts.size_bytes)
    finally:
        book.close()


class WorkbookTable(DataTable):
    """The rows of a workbook's first sheet with cells; a blank row is skipped."""

    def __init__(self, book: Any, facts: InspectedFile, options: ReadOptions) -> None:
        self._path = facts.path
        # the first sheet may be empty
        sheets = [sheet for sheet in book.worksheets if next(_rows(sheet), None) is not None]
        if not sheets:
            raise DataError("has no sheet with cells", file=facts.path)
        self._sheet = sheets[0]
        first = list(islice(_rows(self._sheet), SAMPLE_ROWS))
        self._skipped = 1 if options.has_header else 0
        width = max(len(cells) for _, cells in first)
        names = [" ".join(name.split()) for name in first[0][1]]
        self.columns = tuple(names) if options.has_header else tuple(str(i + 1) for i in range(width))
        self._sample = [cells for _, cells in first[self._skipped :]]
        of = f" (the first of {len(book.worksheets)})" if len(book.worksheets) > 1 else ""
        self.assumed = (f"sheet {self._sheet.title!r}{of}",)

    def sample(self) -> list[Sequence[str]]:
        """Return the cells of the first rows."""
        return list(self._sample)

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield the rows below the header."""
        rows = islice(_rows(self._sheet), self._skipped, None)
        for row, (line, cells) in enumerate(rows, 1):
            yield Record(row, line, cells + [""] * (needed.last + 1 - len(cells)))


def _rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row that holds anything."""
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_cell_text(value) for value in values]
        if any(cells):
            yield number, cells


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Excel keeps every number as a float
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


@contextmanager
def open_parquet(facts: InspectedFile, options: ReadOptions, progress: Progress) -> Iterator[DataTable]:
    """Open the file of `facts`; raise MissingExtraError without pyarrow."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise MissingExtraError(f"reading {facts.path} (Parquet)", "parquet") from None
    try:
        # constant memory: by default pyarrow reads whole row groups ahead
        with ParquetFile(facts.path, memory_map=False, pre_buffer=False) as file:
            yield ParquetTable(file, facts, progress)
    # around the block: pages are decoded while rows are read
    except (pyarrow.ArrowException, OSError) as broken:
        raise DataError("is a damaged Parquet file; write it again", file=facts.path) from broken


class ParquetTable(DataTable):
    """The rows of a Parquet file; only needed columns are decoded."""

    def __init__(self, file: Any, facts: InspectedFile, progress: Progress) -> None:
        self._file, self._facts, self._progress = file, facts, progress
        self.columns = tuple(file.schema_arrow.names)

    def sample(self) -> list[Sequence[str]]:
        """Return the first rows, cells that are no text or number being empty."""
        batch = next(self._file.iter_batches(batch_size=SAMPLE_ROWS), None)
        if batch is None:
            return []
        columns = [[value_text(value) or "" for value in column.to_pylist()] for column in batch.columns]
        return [list(cells) for cells in zip(*columns, strict=True)]

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield every row; raise DataError if a needed value is nested."""
        indices = sorted({needed.label, needed.text, *needed.others})
        names = [self.columns[i] for i in indices]
        row, total = 0, max(1, self._file.metadata.num_rows)
        for batch in self._file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            # by column: pyarrow would make an object for each cell
            values = [batch.column(name).to_pylist() for name in names]
            for number in range(batch.num_rows):
                row += 1
                cells = [""] * len(self.columns)
                for i, column in zip(indices, values, strict=True):
                    cell = value_text(column[number])
                    if cell is None:
                        raise DataError(
                            "must be text or a number", file=self._facts.path, row=row, column=self.columns[i]
                        )
                    cells[i] = cell
                yield Record(row, row, cells)
                if row % ROWS_BETWEEN_PROGRESS == 0:
                    self._progress(self._facts.size_bytes * row // total, self._facts.size_bytes)
        self._progress(self._facts.size_bytes, self._facts.size_bytes)


def value_text(value: object) -> str | None:
    """Return a value of JSON or Parquet as a cell, None if it is nested."""
    if isinstance(value, str):
        return value
    # NaN differs from itself; pandas writes it for a missing value
    if value is None or value != value:
        return ""
    # str() of it would be capitalised, unlike in every other format
    if isinstance(value, bool):
        return str(value).lower()
    # text that the writer did not mark as such
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, list | dict) else str(value)
