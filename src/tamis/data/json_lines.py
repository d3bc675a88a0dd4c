"""JSON lines: one object per row, its fields being the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tamis.data.lines import Lines
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, Needed, Record, Table
from tamis.errors import DataError


class JsonLinesTable(Table):
    """Objects as rows; the columns are the fields of the first 200 objects."""

    assumed = ("JSON lines",)

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode
        first = lines.peek(SAMPLE_ROWS)
        self._first = [
            self._object(line, n) for n, line in enumerate(first, lines.first_line) if line.strip()
        ]
        self.columns = tuple(dict.fromkeys(name for one in self._first for name in one))

    def sample(self) -> list[Sequence[str]]:
        """Return the values of the first objects as text, nested ones as nothing."""
        return [[_as_text(one.get(name)) or "" for name in self.columns] for one in self._first]

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
