"""The first sheet of an Excel workbook as a table, read row by row. Knows openpyxl."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from xml.etree.ElementTree import ParseError

from tamis.data.encoding import FileFacts
from tamis.data.options import ReadOptions
from tamis.data.tables import SAMPLE_ROWS, Needed, Record, Table
from tamis.errors import DataError, MissingExtraError
from tamis.types import Progress


@contextmanager
def open_workbook(facts: FileFacts, options: ReadOptions, progress: Progress) -> Iterator[Table]:
    """Open the workbook of `facts`; raise MissingExtraError without openpyxl."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise MissingExtraError(f"reading {facts.path} (.xlsx)", "excel") from None
    try:
        book = openpyxl.load_workbook(facts.path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, ParseError) as broken:
        problem = "is a damaged or protected workbook; save it again, or save the sheet as CSV"
        raise DataError(problem, file=facts.path) from broken
    try:
        yield WorkbookTable(book, facts, options)
        progress(facts.size_bytes, facts.size_bytes)
    finally:
        book.close()


class WorkbookTable(Table):
    """The rows of a workbook's first sheet with cells; a blank row is skipped."""

    def __init__(self, book: Any, facts: FileFacts, options: ReadOptions) -> None:
        self._path = facts.path
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
        cells = [_as_text(value) for value in values]
        if any(cells):
            yield number, cells


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Excel keeps every number as a float
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
