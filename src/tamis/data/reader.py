"""Labelled data files as a user has them, read into one Dataset, and what was assumed on the way.

    inspect_file      type, digest, encoding: the file's bytes, once
    open_table        header and rows, by format
    choose_columns    label, text, source, group
    DatasetBuilder    add each row ─► check ─► repair: rows hidden in another row's text

Texts are taken as they are: blank texts are kept, so that an audit can count them. Labels get one spelling.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tamis.data.columns import choose_columns, choose_text_column
from tamis.data.dataset_builder import DatasetBuilder
from tamis.data.inspection import InspectedFile, inspect_file
from tamis.data.labels import LabelProblem, counted, label_problems
from tamis.data.quote_repair import Repair, SwallowedField
from tamis.data.tables import USUAL_OPTIONS, DataTable, ReadOptions, open_table
from tamis.errors import DataError
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

_ROWS_SHOWN = 5

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx", ".parquet"})


@dataclass(frozen=True)
class ReadResult:
    """A data set and the files it came from.

    sha256:       digest of the file's bytes; of several files, the digest of their digests
    options:      those to read the same files in the same way again, columns by name
    header:       all columns of the file, of the first one if there are several
    rows_as_read: the count before swallowed rows were split
    unlabelled:   rows that were left out because they have no label
    label_words:  maps the file's labels to the words that replaced them, if they were replaced
    choices:      what the reader chose or left out by itself, one phrase each
    repairs:      what it did about swallowed rows
    repaired:     what was read with swallowed rows split; None if this is it
    """

    dataset: Dataset
    paths: tuple[Path, ...]
    sha256: str
    options: ReadOptions
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    rows_as_read: int
    unlabelled: int
    swallowed: tuple[SwallowedField, ...]
    label_words: Mapping[str, str]
    choices: tuple[str, ...]
    repairs: tuple[str, ...] = ()
    repaired: ReadResult | None = None

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the reader chose, left out or repaired by itself, one phrase each."""
        return self.choices + self.repairs

    @cached_property
    def label_problems(self) -> tuple[LabelProblem, ...]:
        """Labels that are probably one, or that mean a missing one."""
        return label_problems(Counter(self.dataset.labels))

    @property
    def lines(self) -> Iterator[str]:
        """Yield what a user should know about how the files were read: no line, one, or two."""
        name = ", ".join(path.name for path in self.paths[:3]) + (" …" if len(self.paths) > 3 else "")
        if self.assumed:
            yield f"{name}: assumed {'; '.join(self.assumed)}"
        if self.label_problems:
            found = "; ".join(map(str, self.label_problems[:3]))
            yield f"{name}: check the labels: {found} (see tamis audit)"


def read_dataset(
    paths: Paths,
    options: ReadOptions = USUAL_OPTIONS,
    *,
    repair: bool = True,
    progress: Progress = no_progress,
) -> ReadResult:
    """Read one labelled file or several and split swallowed rows.

    Without `repair` rows are left as they are, and `ReadResult.repaired` has them split.

    Rows of further files are counted on from those of the first. `progress` counts bytes. Raises
    DataError, which names the file, row and column.
    """
    files = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    if not files:
        raise DataError("no data file was named")
    facts = [inspect_file(file, options.encoding) for file in files]
    # all files are inspected first: a bad one stops the reading before it has cost time
    total, done = sum(one.size_bytes for one in facts), 0
    results = []
    for one in facts:
        # `before` is bound now: the loop goes on while the closure lives
        def moved(bytes_read: int, size: int, before: int = done) -> None:
            progress(before + bytes_read, total)

        results.append(_read_file(one, options, repair, moved))
        done += one.size_bytes
    return results[0] if len(results) == 1 else _joined(results)


def data_name(paths: Paths) -> str:
    """Return the name of a data file or folder for titles; of several, the first and how many follow."""
    files = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (files[0].resolve().name or str(files[0])) + more


def require_classes(dataset: Dataset, file: object, *, column: str | None = None) -> None:
    """Refuse a data set that nothing can be learned from: one class, or no label that occurs twice."""
    classes = len(dataset.classes)
    if classes < 2:
        found = f"only the class {dataset.classes[0]!r}" if classes else "no class"
        raise DataError(f"has {found}; at least two are needed", file=file, column=column)
    # identifiers or texts taken for labels; two rows with two labels are a tiny example
    if classes == len(dataset) > 2:
        what = f"is {column!r} the label column?" if column else "is this the label column?"
        problem = f"{classes:,} labels with one row each: {what} name another with --label-column"
        raise DataError(problem, file=file)


def _read_file(facts: InspectedFile, options: ReadOptions, repair: bool, progress: Progress) -> ReadResult:
    with open_table(facts, options, progress) as table:
        columns = choose_columns(table.columns, table.sample(), options, facts.path)
        contents = DatasetBuilder(columns, table.delimiter, options)
        for record in table.records(columns.needed):
            contents.add(record)
    contents.check(facts.path)
    # before the repair, which changes the columns in place
    as_read = _result(facts, options, table, contents, Repair((), {}, {}))
    rows_as_read = len(contents.labels)
    repaired = replace(_result(facts, options, table, contents, contents.repair()), rows_as_read=rows_as_read)
    return repaired if repair else replace(as_read, repaired=repaired)


def _result(
    facts: InspectedFile, options: ReadOptions, table: DataTable, contents: DatasetBuilder, repaired: Repair
) -> ReadResult:
    return ReadResult(
        dataset=contents.dataset(),
        paths=(facts.path,),
        sha256=facts.sha256,
        options=replace(options, columns=contents.columns.names, remembered=None),
        encoding=facts.encoding or "",
        delimiter=table.delimiter,
        header=table.columns,
        rows_as_read=len(contents.labels),
        unlabelled=contents.unlabelled,
        swallowed=repaired.found,
        label_words=repaired.label_words,
        choices=tuple(_choices(facts, table, contents, repaired.label_words)),
        repairs=tuple(_repairs(repaired)),
    )


def _choices(
    facts: InspectedFile, table: DataTable, contents: DatasetBuilder, label_words: Mapping[str, str]
) -> Iterator[str]:
    """Yield what was chosen or left out in one file, one phrase each."""
    yield from facts.assumed
    yield from table.assumed
    names = contents.columns.names
    for role in contents.columns.guessed:
        yield f"{role} column {getattr(names, role)!r}"
    if contents.unlabelled:
        yield f"{counted(contents.unlabelled, 'row')} without a label left out"
    if contents.relabelled:
        yield f"blanks or Unicode form of the label changed in {counted(contents.relabelled, 'row')}"
    if label_words:
        renamed = ", ".join(f"{label!r} to {word!r}" for label, word in sorted(label_words.items()))
        yield f"labels renamed as in the recovered rows: {renamed}"
    if contents.has_too_many_sources:
        yield f"column {names.source!r} ignored: too many different values for a source"
    if contents.options.strip_html:
        yield "HTML removed from texts"


def _repairs(repair: Repair) -> Iterator[str]:
    recovered = sum(field.recovered for field in repair.found)
    if recovered:
        rows = _places([field.row for field in repair.found if field.recovered])
        yield f"{counted(recovered, 'row')} recovered from {rows}, after an unescaped quote"
    whole = [field.row for field in repair.found if not field.recovered]
    if whole:
        yield f"the text of {_places(whole)} left as it is, although it looks like several rows"


def _places(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + (" …" if len(rows) > _ROWS_SHOWN else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}"


def _joined(results: Sequence[ReadResult]) -> ReadResult:
    """Return several files as one, their rows counted on."""
    first = results[0]
    texts: list[str] = []
    labels: list[str] = []
    rows: list[int] = []
    swallowed: list[SwallowedField] = []
    offset = 0
    for one in results:
        texts.extend(one.dataset.texts)
        labels.extend(one.dataset.labels)
        rows.extend(offset + row for row in one.dataset.rows)
        swallowed.extend(replace(field, row=field.row + offset) for field in one.swallowed)
        # rows without a label have numbers, too
        offset += one.rows_as_read + one.unlabelled
    # the order of the files counts: it is the order of the rows
    digests = "".join(one.sha256 for one in results)
    repaired = [one.repaired for one in results if one.repaired is not None]
    return replace(
        first,
        dataset=Dataset(
            texts,
            labels,
            rows,
            # files may differ in optional columns; a column with gaps would make up a source
            sources=_all_or_none([one.dataset.sources for one in results]),
            groups=_all_or_none([one.dataset.groups for one in results]),
        ),
        paths=tuple(path for one in results for path in one.paths),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        rows_as_read=sum(one.rows_as_read for one in results),
        unlabelled=sum(one.unlabelled for one in results),
        swallowed=tuple(swallowed),
        label_words={label: word for one in results for label, word in one.label_words.items()},
        choices=tuple(f"{phrase} in {one.paths[0].name}" for one in results for phrase in one.choices),
        repairs=tuple(f"{phrase} in {one.paths[0].name}" for one in results for phrase in one.repairs),
        repaired=_joined(repaired) if repaired else None,
    )


def _all_or_none(columns: Sequence[Sequence[str] | None]) -> list[str] | None:
    """Return the columns one after the other, None unless every file has one."""
    if any(column is None for column in columns):
        return None
    return [cell for column in columns if column is not None for cell in column]


def is_table(path: Path) -> bool:
    """Return whether the file's name is that of a table, and not of a text per line."""
    name = Path(path.stem) if path.suffix == ".gz" else path
    return name.suffix.lower() in _TABLE_SUFFIXES


def read_texts(path: Path, options: ReadOptions, log: Notice = no_notice) -> Iterator[str]:
    """Yield the cells of the text column; `log` is called with what was assumed. Raises DataError."""
    facts = inspect_file(path, options.encoding)
    with open_table(facts, options, no_progress) as table:
        columns = choose_text_column(table.columns, table.sample(), options, path)
        assumed = [*facts.assumed, *table.assumed]
        assumed += [f"text column {columns.names.text!r}"] if columns.guessed else []
        if assumed:
            log(f"{path.name}: assumed {'; '.join(assumed)}")
        text = columns.needed.text
        for record in table.records(columns.needed):
            yield record.cells[text]
