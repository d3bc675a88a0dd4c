"""Delimited text: CSV, TSV and their relatives, streamed, with errors that name row and line.

Handles lines, delimiters, quotes, escapes and headers; independent of labels and texts."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from tamis.data.columns import count_known_names
from tamis.data.inspection import InspectedFile
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, DataTable, Needed, ReadOptions, Record
from tamis.errors import DataError
from tamis.types import Progress

# the first of equally good ones wins: the comma is the most frequent
_DELIMITERS = (",", "\t", ";", "|")
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
# Excel reads and writes this line before the header
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# the csv module's own limit, 128 kB, is less than a long document has
_MAX_FIELD_CHARACTERS = 64 << 20
# a backslash, and what it escapes if that is a quote or another backslash
_LITERAL_BACKSLASH = re.compile(r'\\(["\\]?)')


class Lines:
    """The lines of `stream`; the first ones can be looked at before they are read.

    `first_line` is the number of the first line that `rest` yields; `ended` is True after the last line.
    """

    def __init__(self, stream: TextIO, file: BinaryIO, path: Path, *, size_bytes: int, progress: Progress):
        self.path = path
        self.ended = False
        self.first_line = 1
        self._read = self._checked(stream)
        self._file, self._size, self._progress = file, size_bytes, progress
        self._waiting: list[str] = []

    def peek(self, n: int) -> list[str]:
        """Return up to `n` next lines without consuming them."""
        while len(self._waiting) < n and (line := next(self._read, None)) is not None:
            self._waiting.append(line)
        return self._waiting[:n]

    def skip(self, n: int = 1) -> None:
        """Drop the next `n` lines."""
        self.peek(n)
        del self._waiting[:n]
        self.first_line += n

    def rest(self) -> Iterator[str]:
        """Yield the remaining lines, once."""
        yield from self._waiting
        yield from self._read
        # the reader asks for more lines than there are only within a row: then a quote was never closed
        self.ended = True

    def rows(self) -> Iterator[tuple[int, int, str]]:
        """Yield row, line number and line of the rest, for formats of one row per line; report progress."""
        row = 0
        for number, line in enumerate(self.rest(), self.first_line):
            if line.strip():
                row += 1
                yield row, number, line
                if row % ROWS_BETWEEN_PROGRESS == 0:
                    self.report_progress()
        self.report_progress(done=True)

    def report_progress(self, *, done: bool = False) -> None:
        """Call the progress callback with the bytes read, of all."""
        # the file may have grown since it was inspected
        self._progress(self._size if done else min(self._file.tell(), self._size), self._size)

    def _checked(self, stream: TextIO) -> Iterator[str]:
        count = 0
        try:
            for line in stream:
                count += 1
                yield line
        except UnicodeDecodeError as failed:
            # the decoder reads ahead: its buffer holds lines that were not yielded yet
            number = count + 1 + failed.object[: failed.start].count(b"\n")
            problem = f"line {number} is not valid {failed.encoding}; name the encoding with --encoding"
            raise DataError(problem, file=self.path) from failed
        except UnicodeError as failed:  # such as UTF-16 without a byte-order mark
            problem = f"is not in the named encoding ({failed}); name another with --encoding"
            raise DataError(problem, file=self.path) from failed
        except (gzip.BadGzipFile, EOFError, zlib.error) as failed:
            problem = f"is damaged after line {count}; download or compress it again"
            raise DataError(problem, file=self.path) from failed


class DelimitedTable(DataTable):
    """A header and the rows below it.

    preamble_lines: lines before the header: blank ones and `sep=`
    is_escaped:     whether a backslash escapes a quote

    A row may lack cells after the last needed one, and may have empty cells beyond the header's. A row
    whose cells are all empty is skipped.
    """

    def __init__(self, lines: Lines, facts: InspectedFile, options: ReadOptions) -> None:
        # A swallowed part of a file can be one huge field. The limit is the process's, so it is only raised.
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
        self._lines, self._has_header = lines, options.has_header
        self._skip_unlabelled = options.skip_unlabelled
        self.is_escaped = options.escape == "backslash" or (options.escape == "auto" and facts.is_escaped)
        # the `sep=` line must be consumed before the first rows are looked at
        self.delimiter = self._named_delimiter(options) or self._best_delimiter(options)
        self.preamble_lines = lines.first_line - 1
        first = self._first_rows(self.delimiter)
        # blanks and line ends in a name come from wrapped cells of a spreadsheet
        titles = (" ".join(cell.split()) for cell in first[0])
        numbers = (str(i + 1) for i in range(max(map(len, first))))
        self.columns = tuple(titles if self._has_header else numbers)
        self._sample = first[1:] if self._has_header else first
        self.assumed = (
            *(
                [f"delimiter {self.delimiter!r}"]
                if options.delimiter is None and self.delimiter != ","
                else ()
            ),
            *(
                ['quotes escaped by a backslash (\\")']
                if self.is_escaped and options.escape == "auto"
                else ()
            ),
        )

    def sample(self) -> list[Sequence[str]]:
        """Return the cells of the first rows."""
        return list(self._sample)

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield the rows that hold anything."""
        lines, width = self._lines, len(self.columns)
        reader = self._reader(lines.rest(), self.delimiter)
        rows = self._rows(reader)
        if self._has_header:
            next(rows, None)
        row, offset = 0, lines.first_line
        label = needed.label
        # csv counts the last line of a row: the next row begins after it
        line = offset + reader.line_num
        for cells in rows:
            # Only an unusual row is looked at closely; a quote that is never closed ends with the file.
            if lines.ended or len(cells) != width or not cells[label]:
                # blank lines; a row of blanks at the end of the file may be an unclosed quote
                if not any(cells) or (len(cells) == 1 and not cells[0].strip() and not lines.ended):
                    line = offset + reader.line_num
                    continue
                self._check(cells, needed, row + 1, line)
            row += 1
            yield Record(row, line, cells)
            line = offset + reader.line_num
            if row % ROWS_BETWEEN_PROGRESS == 0:
                lines.report_progress()
        lines.report_progress(done=True)

    def _check(self, cells: list[str], needed: Needed, row: int, line: int) -> None:
        """Raise DataError unless the row has every needed cell and nothing beyond the header's columns.

        A row that ends before its label has an empty one if unlabelled rows are skipped.
        """
        width = len(self.columns)
        # csv returns an unclosed field as if it were closed: only the end of the file shows it
        if self._lines.ended:
            self._fail(
                min(len(cells), width) - 1, "a quote opens here and is never closed; double it", row, line
            )
        lacks_label = needed.text < len(cells) <= needed.label
        if lacks_label and self._skip_unlabelled:
            cells += [""] * (needed.last + 1 - len(cells))
        if len(cells) <= needed.last:
            remedy = (
                "; add it, or use --skip-unlabelled" if lacks_label and len(cells) == needed.label else ""
            )
            problem = f"this cell is missing: the row has {len(cells)} of {width}{remedy}"
            self._fail(len(cells), problem, row, line)
        # empty cells beyond the header are harmless: spreadsheets export them
        if any(cells[width:]):
            advice = "a text that holds the delimiter or a quote must be quoted"
            self._fail(width - 1, f"the row has {len(cells)} cells, the header {width}; {advice}", row, line)

    def _fail(self, column: int, problem: str, row: int, line: int) -> None:
        where = f" (line {line} of the file)"
        raise DataError(problem + where, file=self._lines.path, row=row, column=self.columns[column])

    def _rows(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        try:
            yield from reader
        # a field of more than 64 MB: nearly always a quote that was never closed
        except csv.Error as wrong:
            line = self._lines.first_line + getattr(reader, "line_num", 1) - 1
            problem = f"line {line}: {wrong}; is a quote opened there and never closed?"
            raise DataError(problem, file=self._lines.path) from None

    def _reader(self, lines: Iterator[str], delimiter: str) -> csv._reader:  # type: ignore[name-defined]
        # csv drops the escape character before any character, which would eat the backslash of C:\temp
        if self.is_escaped:
            return csv.reader(literal_backslashes(lines), delimiter=delimiter, escapechar="\\")
        return csv.reader(lines, delimiter=delimiter)

    def _named_delimiter(self, options: ReadOptions) -> str | None:
        """Return the delimiter that the user or the file's `sep=` line names."""
        separator = _SEPARATOR_LINE.fullmatch(self._lines.peek(1)[0])
        # consumed even if the user names another delimiter: it is no header
        if separator is not None:
            self._lines.skip()
        if options.delimiter is None:
            return separator[1] if separator is not None else None
        named = _DELIMITER_NAMES.get(options.delimiter.lower(), options.delimiter)
        if len(named) != 1 or named in '"\r\n\0':
            problem = "--delimiter must be one character, or tab, comma, semicolon or pipe"
            raise DataError(problem, file=self._lines.path)
        return named

    def _best_delimiter(self, options: ReadOptions) -> str:
        """Return the delimiter under which the header has the columns, or else the rows agree best."""

        def quality(delimiter: str) -> tuple[int, float, int]:
            rows = self._first_rows(delimiter)
            known = count_known_names(rows[0], options) if self._has_header else 0
            common = Counter(map(len, rows)).most_common(1)[0]
            agreeing = common[1] / len(rows) if common[0] > 1 else 0.0
            # names decide first: prose splits into many equal rows at commas, too
            return known, agreeing, len(rows[0])

        return max(_DELIMITERS, key=quality)

    def _first_rows(self, delimiter: str) -> list[list[str]]:
        """Return the first rows; the last line looked at may be only part of a row."""
        lines = self._lines.peek(SAMPLE_ROWS)
        rows = [cells for cells in self._rows(self._reader(iter(lines), delimiter)) if any(cells)]
        if not rows:
            raise DataError("has no row; its first line must name the columns", file=self._lines.path)
        return rows[:-1] if len(lines) == SAMPLE_ROWS and len(rows) > 2 else rows


def literal_backslashes(lines: Iterator[str]) -> Iterator[str]:
    """Double every backslash that escapes neither a quote nor a backslash, so that it stays in the text."""
    for line in lines:
        if "\\" in line and line.count("\\") != line.count('\\"'):  # mostly, only quotes are escaped
            line = _LITERAL_BACKSLASH.sub(lambda found: found[0] if found[1] else "\\\\", line)
        yield line
