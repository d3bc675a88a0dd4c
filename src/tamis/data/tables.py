"""Reads a data file as columns and rows of text cells, and writes one.

One frozen record carries the options from the command line to the reader, into a prepared folder and
into a model's manifest, so that the same file is read the same way again. A file is written completely or
not at all.
"""

from __future__ import annotations

import csv
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from tamis.data.inspection import InspectedFile
from tamis.errors import DataError
from tamis.types import Dataset, Progress

Escape = Literal["auto", "backslash", "none"]


# written down by name in their own places, so no unusual option
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


_Opener = Callable[[InspectedFile, ReadOptions, Progress], AbstractContextManager[DataTable]]


def open_table(
    facts: InspectedFile, options: ReadOptions, progress: Progress
) -> AbstractContextManager[DataTable]:
    """Open the file of `facts` with the class for its format; raise DataError if it has no columns."""
    # not at the top of the file: the formats are subclasses of DataTable
    from tamis.data.table_formats import open_parquet, open_text_table, open_workbook

    if facts.type == "arrow":
        raise DataError("is an Arrow (Feather) file; save it as Parquet or CSV", file=facts.path)
    openers: Mapping[str, _Opener] = {"xlsx": open_workbook, "parquet": open_parquet}
    return openers.get(facts.type, open_text_table)(facts, options, progress)


@contextmanager
def atomic_text_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a UTF-8 file that replaces `path` if the block succeeds, and is removed otherwise.

    Missing folders are made; line ends are written as they are given. A link is followed, and a
    device or a folder is refused: it would be replaced by a file.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise DataError("is not a regular file and will not be replaced", file=path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to their owner, and a data set need not be.
    unfinished = target.with_name(f".{target.name[:50]}.{secrets.token_hex(6)}.tmp")
    try:
        # newline="": csv writes line ends itself
        with open(unfinished, "x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            # before the rename: after a power failure the name must not lead to an empty file
            os.fsync(file.fileno())
        if target.exists():
            # the new file keeps the permissions of the one that it replaces
            unfinished.chmod(target.stat().st_mode)
        os.replace(unfinished, target)
    finally:
        # the file is still there only if something failed
        unfinished.unlink(missing_ok=True)
    # the name is in the folder, which fsync of the file does not write
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_dataset(dataset: Dataset, path: str | os.PathLike[str], *, rows: bool = False) -> None:
    """Write `dataset` as a CSV with the columns label, text and, if it has them, source and group.

    With `rows`, a last column row holds the number of the row that each example came from.
    """
    columns = {"label": dataset.labels, "text": dataset.texts}
    if dataset.sources is not None:
        columns["source"] = dataset.sources
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    if rows:
        columns["row"] = [str(row) for row in dataset.rows]
    with atomic_text_file(path) as file:
        plain = csv.writer(file, lineterminator="\n")
        # The csv module of Python 3.11 leaves a lone "\r" unquoted, which then reads as a line end.
        careful = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for cells in zip(*columns.values(), strict=True):
            writer = careful if any("\r" in cell for cell in cells) else plain
            writer.writerow(cells)
