"""A delimited text file as a header and records, streamed, with every irregular row refused.

Knows delimiters, quotes, line ends and row numbers; does not know labels or texts.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from tamis.data.encoding import FileFacts
from tamis.errors import DataError
from tamis.records import Progress

_DELIMITERS = (",", "\t", ";")
_MAX_FIELD_CHARACTERS = 2**31 - 1
_ROWS_BETWEEN_PROGRESS = 1000
_UNDECODED = re.compile("[\udc80-\udcff]")


class Record(NamedTuple):
    """One data row: its number counted from 1 without the header, its first line in the file, its cells."""

    row: int
    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Table:
    """An open file: its columns, its delimiter, and its records, which can be read once."""

    columns: tuple[str, ...]
    delimiter: str
    records: Iterator[Record]


@contextmanager
def open_table(facts: FileFacts, wanted: Mapping[str, str], *, progress: Progress) -> Iterator[Table]:
    """Open the file of `facts`; `wanted` maps the name of each required column to its option's name.

    The delimiter is the first of comma, tab and semicolon under which the header has all of them.
    """
    # A swallowed part of a file can be one huge field. The limit is the process's, so it is only raised.
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    # A byte that cp1252 does not define becomes a lone surrogate, so that its row and column can be named.
    errors = "surrogateescape" if facts.encoding == "cp1252" else "strict"
    with open(facts.path, encoding=facts.encoding, errors=errors, newline="") as stream:
        lines = _Lines(stream, facts.path)
        header = next((line for line in lines if line.strip()), None)
        if header is None:
            raise DataError("is empty; its first line must name the columns", file=facts.path)
        columns, delimiter = _parse_header(header, wanted, facts.path)
        records = _records(lines, columns, delimiter)
        yield Table(columns, delimiter, _reporting(records, stream, facts.size_bytes, progress))


class _Lines:
    """The physical lines of a file, with their count and whether the end was met."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream, self.path = stream, path
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._stream)
        except StopIteration:
            self.ended = True
            raise
        except UnicodeDecodeError as failed:
            problem = f"is not valid {failed.encoding} after line {self.count}: {failed.reason}"
            raise DataError(problem, file=self.path) from failed
        self.count += 1
        return line


def _parse_header(line: str, wanted: Mapping[str, str], path: Path) -> tuple[tuple[str, ...], str]:
    """Return the columns and the delimiter under which all wanted columns are there."""
    readings = [(_split_header(line, delimiter), delimiter) for delimiter in _DELIMITERS]
    for columns, delimiter in readings:
        if set(wanted) <= set(columns):
            repeated = next((name for name in columns if name and columns.count(name) > 1), None)
            if repeated is not None:
                raise DataError("the header names this column twice; rename one", file=path, column=repeated)
            return columns, delimiter
    columns, _ = max(readings, key=lambda reading: len(reading[0]))
    missing = next(name for name in wanted if name not in columns)
    raise DataError(_missing_column(missing, columns, wanted[missing]), file=path)


def _split_header(line: str, delimiter: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter)))


def _missing_column(name: str, columns: Sequence[str], option: str) -> str:
    """Say which columns there are, and which of them was perhaps meant."""
    listed = ", ".join(repr(column[:40]) for column in columns[:20])
    lowered = {column.casefold(): column for column in columns if column}
    nearest = difflib.get_close_matches(name.casefold(), lowered, 1)
    hint = f"did you mean {option} {lowered[nearest[0]]!r}?" if nearest else f"name it with {option}"
    return f"the first line names no column {name!r}, it has {listed}; {hint}"


def _records(lines: _Lines, columns: Sequence[str], delimiter: str) -> Iterator[Record]:
    row = 0
    next_line = lines.count + 1
    for cells in csv.reader(lines, delimiter=delimiter):
        line, next_line = next_line, lines.count + 1
        if not cells or (len(cells) == 1 and not cells[0].strip() and not lines.ended):
            continue
        row += 1
        problem = _irregularity(cells, columns, cut_off=lines.ended)
        if problem is not None:
            column, what = problem
            raise DataError(f"{what} (line {line} of the file)", file=lines.path, row=row, column=column)
        yield Record(row, line, cells)


def _irregularity(cells: list[str], columns: Sequence[str], *, cut_off: bool) -> tuple[str, str] | None:
    """Return the column and what is wrong there, or None for a row as it should be."""
    if cut_off:  # the csv module met the end of the file while it was looking for the closing quote
        return columns[min(len(cells), len(columns)) - 1], "a quote opens here and is never closed; double it"
    if len(cells) < len(columns):
        return columns[len(cells)], f"this cell is missing: the row has {len(cells)} of {len(columns)}"
    if len(cells) > len(columns):
        advice = "a text that holds the delimiter or a quote must stand in quotes"
        return columns[-1], f"the row has {len(cells)} cells, the header {len(columns)}; {advice}"
    for column, cell in zip(columns, cells, strict=True):
        if not cell.isascii() and (undecoded := _UNDECODED.search(cell)):
            byte = ord(undecoded[0]) - 0xDC00
            return column, f"byte 0x{byte:02x} is neither UTF-8 nor cp1252; save the file as UTF-8"
    return None


def _reporting(records: Iterator[Record], stream: TextIO, size: int, progress: Progress) -> Iterator[Record]:
    for record in records:
        if record.row % _ROWS_BETWEEN_PROGRESS == 0:
            progress(stream.buffer.tell(), size)
        yield record
    progress(size, size)
