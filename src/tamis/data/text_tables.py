"""Text formats with one record per line: delimited, JSON lines, fastText's label lines.

The first line of a file decides which one it is. Streams the lines; errors name row and line. Knows
delimiters, quotes, escapes and headers; does not know labels or texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tamis.data.delimited import DelimitedTable, Lines
from tamis.data.inspection import InspectedFile
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, DataTable, Needed, ReadOptions, Record
from tamis.errors import DataError
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
    while (first := lines.peek(1)) and not first[0].strip():
        lines.skip()
    if not first:
        raise DataError("is empty; its first line must name the columns", file=facts.path)
    start = first[0].lstrip()
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
        self.columns = tuple(dict.fromkeys(name for one in self.first_objects for name in one))

    def sample(self) -> list[Sequence[str]]:
        """Return the values of the first objects as text, nested ones as nothing."""
        return [[_as_text(one.get(name)) or "" for name in self.columns] for one in self.first_objects]

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield every object; raise DataError if a needed field is an object or a list."""
        row, columns = 0, self.columns
        indices = (needed.label, needed.text, *needed.others)
        for number, line in enumerate(self._lines.rest(), self._lines.first_line):
            if not line.strip():
                continue
            row += 1
            found = self._object(line, number)
            cells = [""] * len(columns)
            for i in indices:
                cell = _as_text(found.get(columns[i]))
                if cell is None:
                    problem = f"must be text or a number (line {number} of the file)"
                    raise DataError(problem, file=self._lines.path, row=row, column=columns[i])
                cells[i] = cell
            yield Record(row, number, cells)
            if row % ROWS_BETWEEN_PROGRESS == 0:
                self._lines.report_progress()
        self._lines.report_progress(done=True)

    def _object(self, line: str, number: int) -> dict[str, Any]:
        try:
            return self._decode(line)
        except (msgspec.DecodeError, UnicodeEncodeError):
            problem = f"line {number} is not a JSON object; write one object per line"
            raise DataError(problem, file=self._lines.path) from None


def _as_text(value: object) -> str | None:
    """Return a field's value as a cell, None if it is an object or a list."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


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
        row = 0
        for number, line in enumerate(self._lines.rest(), self._lines.first_line):
            if not line.strip():
                continue
            row += 1
            cells = _cut(line)
            if cells[1].startswith(PREFIX):
                problem = "has several labels; keep one label per text"
                raise DataError(f"{problem} (line {number} of the file)", file=self._lines.path, row=row)
            yield Record(row, number, cells)
            if row % ROWS_BETWEEN_PROGRESS == 0:
                self._lines.report_progress()
        self._lines.report_progress(done=True)


def _cut(line: str) -> tuple[str, str]:
    line = line.strip()
    if not line.startswith(PREFIX):
        return "", line
    label, _, text = line.removeprefix(PREFIX).partition(" ")
    if "\t" in label:  # some files separate label and text by a tab
        label, _, text = line.removeprefix(PREFIX).partition("\t")
    return label, text.strip()
