"""How a data file is to be read, and what it is read as: column names and rows of text cells.

One frozen record carries the options from the command line to the reader, into a prepared folder and
into a model's manifest, so that the same file is read the same way again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from tamis.data.inspection import InspectedFile
from tamis.errors import DataError
from tamis.types import Progress

Escape = Literal["auto", "backslash", "none"]


_NAMES = frozenset({"columns", "remembered"})
SAMPLE_ROWS = 200
"""Rows that are looked at to choose a delimiter and columns."""
ROWS_BETWEEN_PROGRESS = 1000


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are needed.

    label, text: None to take the usual name, or the only column that can be meant
    source:      may be missing from the file
    group:       must exist if it is named
    """

    label: str | None = None
    text: str | None = None
    source: str | None = "source"
    group: str | None = None


USUAL_COLUMNS = Columns()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file; None and `auto` leave the choice to the reader, which reports what it chose.

    remembered:      the columns that a model was trained with, preferred to a guess
    skip_unlabelled: leave rows without a label out, in place of refusing the file
    strip_html:      remove tags and resolve character references in texts
    """

    columns: Columns = USUAL_COLUMNS
    remembered: Columns | None = None
    encoding: str | None = None
    delimiter: str | None = None
    escape: Escape = "auto"
    has_header: bool = True
    skip_unlabelled: bool = False
    strip_html: bool = False


USUAL_OPTIONS = ReadOptions()


def unusual_options(options: ReadOptions) -> Mapping[str, Any]:
    """Return the options that are not the usual ones, columns aside, by name."""
    usual, found = asdict(USUAL_OPTIONS), asdict(options)
    return {name: found[name] for name in found if name not in _NAMES and found[name] != usual[name]}


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


class DataTable(ABC):
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


Opener = Callable[[InspectedFile, ReadOptions, Progress], AbstractContextManager[DataTable]]


def open_table(
    facts: InspectedFile, options: ReadOptions, progress: Progress
) -> AbstractContextManager[DataTable]:
    """Open the file of `facts` with the class for its format; raise DataError if it has no columns."""
    return _opener(facts)(facts, options, progress)


def _opener(facts: InspectedFile) -> Opener:
    if facts.type == "arrow":
        raise DataError("is an Arrow (Feather) file; save it as Parquet or CSV", file=facts.path)
    if facts.type == "xlsx":
        from tamis.data.table_formats import open_workbook

        return open_workbook
    if facts.type == "parquet":
        from tamis.data.table_formats import open_parquet

        return open_parquet
    from tamis.data.table_formats import open_text_table

    return open_text_table
