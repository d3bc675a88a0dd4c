"""The columns of a data set while a file's rows are added, and the rows that are skipped or repaired.

Handles records and the columns that matter; independent of formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.data.columns import ChosenColumns
from tamis.data.labels import normalise_label
from tamis.data.quote_repair import Repair, RowLayout, find_swallowed
from tamis.data.tables import ReadOptions, Record
from tamis.errors import DataError
from tamis.markup import strip_html
from tamis.normalization import is_blank
from tamis.types import Dataset

# with more values a column is an identifier, not a source: they are no longer counted
_MAX_SOURCES = 100
# a few sources may have one row each; many with hardly two rows are identifiers, not sources
_FEW_SOURCES = 10
_MIN_ROWS_PER_SOURCE = 2


class DatasetBuilder:
    """The columns of a data set while they grow."""

    def __init__(self, columns: ChosenColumns, delimiter: str, options: ReadOptions) -> None:
        self.columns, self.options = columns, options
        self.layout = RowLayout(
            columns.names.label or "", columns.needed.label, columns.needed.text, delimiter
        )
        self.texts: list[str] = []
        self.labels: list[str] = []
        self.sources: list[str] | None = [] if columns.source is not None else None
        self.groups: list[str] | None = [] if columns.group is not None else None
        self.rows: Sequence[int] | None = None
        self.unlabelled = 0
        self.relabelled = 0
        self.source_values: set[str] = set()
        # None while rows are 1, 2, 3 …: a range needs no memory
        self._numbers: list[int] | None = None
        # the only rows that may hold others; kept whole, because their cells must be split again
        self._multiline: dict[int, Sequence[str]] = {}
        self._first_unlabelled: Record | None = None
        self._label_of: dict[str, str] = {}
        self._shared: dict[str, str] = {}

    def add(self, record: Record) -> None:
        """Take over the cells that matter; a row without a label is counted and left out."""
        cells = record.cells
        raw = cells[self.layout.label]
        # One string for all rows with the same label: a large file has millions of rows and few labels.
        label = self._label_of.get(raw)
        if label is None:
            label = self._label_of[raw] = normalise_label(raw)
        if not label:
            self.unlabelled += 1
            self._first_unlabelled = self._first_unlabelled or record
            # from here on the numbers have gaps
            if self._numbers is None:
                self._numbers = list(range(1, len(self.labels) + 1))
            return
        # `is` first: equal for nearly all rows
        if label is not raw and label != raw:
            self.relabelled += 1
        text = cells[self.layout.text]
        if "\n" in text or "\r" in text:
            self._multiline[record.row] = cells
        if self._numbers is not None:
            self._numbers.append(record.row)
        self._append(label, text, cells)

    def check(self, path: Path) -> None:
        """Raise DataError for a file without rows, or with unlabelled rows that are not to be skipped."""
        first = self._first_unlabelled
        if first is not None and not self.options.skip_unlabelled:
            rows = f"{self.unlabelled:,} row{' has' if self.unlabelled == 1 else 's have'} no label"
            problem = f"{rows} (the first on line {first.line}); add them, or use --skip-unlabelled"
            raise DataError(problem, file=path, row=first.row, column=self.columns.names.label)
        if not self.labels:
            raise DataError("has no row with a label" if first else "has a header and no rows", file=path)

    def repair(self) -> Repair:
        """Put the rows that were swallowed after the row that swallowed them."""
        # without the empty label: unlabelled rows are no evidence of a row
        labels = frozenset(filter(None, self._label_of.values()))
        repair = find_swallowed(self._multiline, self.layout, labels)
        if repair.rows:
            self._spread(repair.rows)
        if repair.label_words:
            self.labels = [repair.label_words.get(label, label) for label in self.labels]
        return repair

    def dataset(self) -> Dataset:
        """Return what was gathered; a source column of too many values is left out."""
        n_values = len(self.source_values)
        if n_values > _FEW_SOURCES and n_values * _MIN_ROWS_PER_SOURCE > len(self.labels):
            self.sources = None
        return Dataset(
            texts=self.texts,
            labels=self.labels,
            rows=self._numbers if self._numbers is not None else range(1, len(self.texts) + 1),
            sources=self.sources,
            groups=self.groups,
        )

    @property
    def has_too_many_sources(self) -> bool:
        """Whether the source column was left out because its values are hardly repeated."""
        return self.columns.source is not None and self.sources is None

    def _append(self, label: str, text: str, cells: Sequence[str]) -> None:
        self.texts.append(strip_html(text) if self.options.strip_html else text)
        self.labels.append(label)
        if self.sources is not None:
            # one string per value, as for labels
            source = self._share(cells[self.columns.source or 0])
            self.sources.append(source)
            self.source_values.add(source)
            if len(self.source_values) > _MAX_SOURCES:
                self.sources = None  # addresses or ids: kept any longer, they could fill the memory
        if self.groups is not None:
            self.groups.append(self._share(cells[self.columns.group or 0]))

    def _share(self, value: str) -> str:
        return self._shared.setdefault(value, value)

    def _spread(self, replacements: Mapping[int, list[list[str]]]) -> None:
        numbers = self._numbers if self._numbers is not None else range(1, len(self.labels) + 1)
        before = (self.texts, self.labels, self.sources, self.groups)
        self.texts, self.labels = [], []
        self.sources = [] if self.sources is not None else None
        self.groups = [] if self.groups is not None else None
        self._numbers = []
        for index, row in enumerate(numbers):
            held = replacements.get(row)
            # recovered rows have the number of the row that swallowed them
            self._numbers.extend([row] * (len(held) if held else 1))
            for cells in held or ():
                self._append(normalise_label(cells[self.layout.label]), cells[self.layout.text], cells)
            # copied, not added again: HTML is removed already
            if not held:
                for old, new in zip(
                    before, (self.texts, self.labels, self.sources, self.groups), strict=True
                ):
                    if old is not None and new is not None:
                        new.append(old[index])


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The remaining rows, and how many were dropped for each reason."""

    dataset: Dataset
    empty: int
    duplicates: int


def drop_empty(dataset: Dataset) -> Dataset:
    """Return the examples whose text has a visible character."""
    return dataset.select([i for i, text in enumerate(dataset.texts) if not is_blank(text)])


def clean(dataset: Dataset) -> Cleaned:
    """Drop empty texts, and rows whose text and label are exactly those of an earlier row.

    The same text under another label stays: only a person can say which one is right.
    """
    filled = drop_empty(dataset)
    first: dict[tuple[str, str], int] = {}
    for i, example in enumerate(zip(filled.texts, filled.labels, strict=True)):
        first.setdefault(example, i)
    return Cleaned(
        dataset=filled.select(list(first.values())),
        empty=len(dataset) - len(filled),
        duplicates=len(filled) - len(first),
    )
