"""A labelled CSV as a user has it, read into a Dataset, and what was noticed on the way.

Knows which columns matter and what may be in them; bytes, rows and repairs are the business of
`encoding`, `table` and `swallowed`. Texts and labels are taken as they are: blank texts are kept,
so that an audit can count them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.data.encoding import FileFacts, examine
from tamis.data.swallowed import Layout, Repair, SwallowedField, find_swallowed
from tamis.data.table import Record, Table, open_table
from tamis.errors import DataError
from tamis.records import Dataset, Progress, no_progress


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that matter; `source` may be absent, `group` must exist if it is named."""

    label: str = "label"
    text: str = "text"
    source: str = "source"
    group: str | None = None


USUAL_COLUMNS = Columns()


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A data set and the file it came from.

    `sha256` is of the file's bytes, `rows_as_read` the count before swallowed rows were split;
    `label_words` maps the file's labels to the words that replaced them, where they were replaced.
    """

    dataset: Dataset
    path: Path
    sha256: str
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    rows_as_read: int
    swallowed: tuple[SwallowedField, ...]
    label_words: Mapping[str, str]
    notes: tuple[str, ...]


def read_dataset(
    path: str | os.PathLike[str],
    columns: Columns = USUAL_COLUMNS,
    *,
    repair: bool = True,
    progress: Progress = no_progress,
) -> ReadResult:
    """Read the CSV at `path` and split swallowed rows; without `repair`, take rows as the csv module does.

    `progress` counts bytes. Raises DataError, which names the file, row and column.
    """
    if columns.label == columns.text:
        raise DataError("the label and the text cannot be the same column", file=path, column=columns.text)
    facts = examine(Path(path))
    wanted = {columns.label: "--label-column", columns.text: "--text-column"}
    if columns.group is not None:
        wanted[columns.group] = "--group-column"
    with open_table(facts, wanted, progress=progress) as table:
        contents = _Contents(table, columns)
        for record in table.records:
            contents.add(record, facts.path)
    if not contents.labels:
        raise DataError("has a header and no rows", file=path)
    rows_as_read = len(contents.labels)
    repaired = contents.repair() if repair else Repair((), {}, {})
    return ReadResult(
        dataset=contents.dataset(),
        path=facts.path,
        sha256=facts.sha256,
        encoding=facts.encoding,
        delimiter=table.delimiter,
        columns=table.columns,
        rows_as_read=rows_as_read,
        swallowed=repaired.found,
        label_words=repaired.label_words,
        notes=_notes(facts, repaired, columns),
    )


def require_classes(dataset: Dataset, file: object, *, column: str = USUAL_COLUMNS.label) -> None:
    """Refuse a data set with fewer than two classes, which nothing can be learned from."""
    if len(dataset.classes) < 2:
        found = f"only the class {dataset.classes[0]!r}" if dataset.classes else "no class"
        raise DataError(f"has {found}; at least two are needed", file=file, column=column)


class _Contents:
    """The columns of a data set while they grow."""

    def __init__(self, table: Table, columns: Columns) -> None:
        self.names = columns
        self.layout = Layout(
            columns.label,
            table.columns.index(columns.label),
            table.columns.index(columns.text),
            table.delimiter,
        )
        self.source = table.columns.index(columns.source) if columns.source in table.columns else None
        self.group = table.columns.index(columns.group) if columns.group is not None else None
        self.texts: list[str] = []
        self.labels: list[str] = []
        self.sources: list[str] = []
        self.groups: list[str] = []
        self.rows: Sequence[int] = []
        self.multiline: dict[int, list[str]] = {}
        self._shared: dict[str, str] = {}

    def add(self, record: Record, path: Path) -> None:
        """Take over the cells that matter; refuse a row without a label."""
        if not record.cells[self.layout.label].strip():
            problem = f"the label is empty (line {record.line} of the file)"
            raise DataError(problem, file=path, row=record.row, column=self.names.label)
        self._append(record.cells)
        text = record.cells[self.layout.text]
        if "\n" in text or "\r" in text:
            self.multiline[record.row] = record.cells

    def repair(self) -> Repair:
        """Put the rows that were swallowed behind the row that swallowed them."""
        repair = find_swallowed(self.multiline, self.layout, frozenset(self.labels))
        if repair.rows:
            self._spread(repair.rows)
        if repair.label_words:
            self.labels = [repair.label_words.get(label, label) for label in self.labels]
        return repair

    def dataset(self) -> Dataset:
        """Return what was gathered."""
        return Dataset(
            texts=self.texts,
            labels=self.labels,
            rows=self.rows or range(1, len(self.texts) + 1),
            sources=self.sources if self.source is not None else None,
            groups=self.groups if self.group is not None else None,
        )

    def _append(self, cells: list[str]) -> None:
        self.texts.append(cells[self.layout.text])
        # One string for all rows with the same label: a large file has millions of rows and few labels.
        self.labels.append(self._share(cells[self.layout.label]))
        if self.source is not None:
            self.sources.append(self._share(cells[self.source]))
        if self.group is not None:
            self.groups.append(self._share(cells[self.group]))

    def _share(self, value: str) -> str:
        return self._shared.setdefault(value, value)

    def _spread(self, replacements: Mapping[int, list[list[str]]]) -> None:
        before = (self.texts, self.labels, self.sources, self.groups)
        self.texts, self.labels, self.sources, self.groups = [], [], [], []
        after = (self.texts, self.labels, self.sources, self.groups)
        rows: list[int] = []
        for row in range(1, len(before[0]) + 1):
            held = replacements.get(row)
            rows.extend([row] * (len(held) if held else 1))
            for cells in held or ():
                self._append(cells)
            if not held:
                for old, new in zip(before, after, strict=True):
                    new.extend(old[row - 1 : row])  # empty where the file has no such column
        self.rows = rows


def _notes(facts: FileFacts, repair: Repair, columns: Columns) -> tuple[str, ...]:
    """Say in one line each what a user should know about how the file was read."""
    notes = []
    if facts.encoding == "cp1252":
        notes.append(f"read as cp1252: byte {facts.invalid_utf8_at} is not UTF-8")
    for field in repair.found:
        place = f"row {field.row}, column {columns.text!r}: "
        if field.recovered:
            notes.append(f"{place}an unescaped quote had swallowed {field.recovered} rows; they are split")
        else:
            notes.append(f"{place}looks like several rows in one field, of an unknown layout; left as it is")
    if repair.label_words:
        renamed = ", ".join(f"{label!r} is {word!r}" for label, word in sorted(repair.label_words.items()))
        notes.append(f"labels are named as in the swallowed rows: {renamed}")
    return tuple(notes)
