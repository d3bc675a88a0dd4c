"""What a data file of any format is read as: column names and rows of text cells.

Knows the seam that the formats implement, and which class reads which file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from tamis.data.encoding import FileFacts
from tamis.data.options import ReadOptions
from tamis.types import Progress

SAMPLE_ROWS = 200
"""Rows that are looked at to choose a delimiter and columns."""

ROWS_BETWEEN_PROGRESS = 1000


class Record(NamedTuple):
    """One data row: its number counted from 1 without the header, its first line in the file, its cells."""

    row: int
    line: int
    cells: Sequence[str]


class Needed(NamedTuple):
    """The columns whose cells matter, by index: a row may end after the last of them."""

    label: int
    text: int
    others: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """The index of the last needed column."""
        return max(self.label, self.text, *self.others)


class Table(ABC):
    """An open data file.

    columns:   the column names in the order of the file
    delimiter: what separates cells, empty for formats without one
    assumed:   what the reader chose by itself, one phrase each
    """

    columns: tuple[str, ...]
    delimiter: str = ""
    assumed: tuple[str, ...] = ()

    @abstractmethod
    def sample(self) -> list[Sequence[str]]:
        """Return the cells of some first rows, without consuming them."""

    @abstractmethod
    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield every row once, with all cells up to the last needed one."""


Opener = Callable[[FileFacts, ReadOptions, Progress], AbstractContextManager[Table]]


def open_table(facts: FileFacts, options: ReadOptions, progress: Progress) -> AbstractContextManager[Table]:
    """Open the file of `facts` with the class for its format; raise DataError if it has no columns."""
    return _opener(facts)(facts, options, progress)


def _opener(facts: FileFacts) -> Opener:
    if facts.type == "xlsx":
        from tamis.data.workbook import open_workbook

        return open_workbook
    if facts.type == "parquet":
        from tamis.data.parquet import open_parquet

        return open_parquet
    from tamis.data.text_tables import open_text_table

    return open_text_table
