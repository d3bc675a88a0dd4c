"""fastText's training files: each line is `__label__NAME` and a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tamis.data.lines import Lines
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, Needed, Record, Table
from tamis.errors import DataError

PREFIX = "__label__"


class LabelLinesTable(Table):
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
