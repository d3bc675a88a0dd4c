"""Inputs: what the command line names, found, inspected and opened.

Knows paths, columns and the options of the reader of labelled data; `sources` reads the rows.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from tamis.batch import columnar
from tamis.batch.delimited import CsvDialect, DelimitedParser
from tamis.batch.json_lines import JsonLinesParser, column_type
from tamis.batch.object_store import ObjectState, find_objects
from tamis.batch.sources import ColumnarSource, FileSource, FileState, TextLayout, TextSource
from tamis.data.columns import choose_text_column
from tamis.data.delimited import DelimitedTable
from tamis.data.inspection import InspectedFile, inspect_file
from tamis.data.table_formats import JsonLinesTable, open_text_table
from tamis.data.tables import SAMPLE_ROWS, ReadOptions
from tamis.errors import DataError
from tamis.types import no_progress

_INPUT_NAME = re.compile(
    r"\.(csv|tsv|txt|jsonl|ndjson)(\.gz|\.zst)?$|\.(parquet|arrow|feather)$", re.IGNORECASE
)


class InputFile(NamedTuple):
    """What an input is called in messages, and the object that it is a copy of."""

    name: str
    remote: ObjectState | None = None


def find_inputs(names: Sequence[str], *, excluded: Sequence[Path] = ()) -> list[Path]:
    """Return the files of names, globs and folders, each once; raise DataError for none.

    Of a folder, all files with a known ending are taken, in alphabetical order; hidden ones are not.
    """
    found: dict[Path, None] = {}
    # what a run writes may be in the folder that it reads
    left_out = {path.resolve() for path in excluded}
    for name in names:
        files = [path for path in _expand(name) if path.resolve() not in left_out]
        if not files:
            raise DataError("no input file found; name a file, a folder or a glob", file=name)
        found.update(dict.fromkeys(files))
    return list(found)


def copy_objects(
    urls: Sequence[str], folder: Path, *, is_own: Callable[[str], bool]
) -> dict[Path, InputFile]:
    """Copy the objects of URLs, prefixes and globs of an object store into a folder, each once.

    Of a prefix, objects with a known ending are taken, in alphabetical order, except those that are `is_own`.
    """
    objects: dict[str, None] = {}
    for url in urls:
        found = [one for one in find_objects(url) if not is_own(one)]
        # a named object is taken whatever its ending; of a prefix or glob, only known endings
        if found != [url]:
            start = len(url.partition("*")[0].rstrip("/")) + 1
            found = [one for one in found if _INPUT_NAME.search(one) and not _is_hidden(Path(one[start:]))]
        if not found:
            raise DataError("no such object; name an object, a prefix or a glob", file=url)
        objects.update(dict.fromkeys(found))
    copies: dict[Path, InputFile] = {}
    for number, url in enumerate(objects):
        # numbered: objects of two prefixes may have one name
        path = folder / f"{number}-{url.rpartition('/')[2]}"
        state = ObjectState.of(url)
        state.download(path)
        copies[path] = InputFile(url, state)
    return copies


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _INPUT_NAME.search(file.name) and file.is_file())
        return [file for file in files if not _is_hidden(file.relative_to(path))]
    if path.exists() or not glob.has_magic(name):
        return [path]
    return sorted(Path(match) for match in glob.glob(name, recursive=True) if os.path.isfile(match))


def _is_hidden(path: Path) -> bool:
    # names that begin with . or _ are marks of other tools and of finished runs (`_run.json`)
    return any(part.startswith((".", "_")) or part.endswith(".parts") for part in path.parts)


def open_source(path: Path, options: ReadOptions, keep: Sequence[str] | None) -> FileSource:
    """Inspect one input; raise DataError that names the file if it cannot be scored.

    `keep` names the columns that are carried through, all of them for None.
    """
    # before the inspection: a change during it must be noticed, too
    state = FileState.of(path) if path.exists() else None
    facts = inspect_file(path, options.encoding)
    found: FileSource
    if facts.type == "parquet":
        found = _open_columnar(facts, options, keep, *columnar.parquet_batches(path))
    elif facts.type == "arrow":
        found = _open_columnar(facts, options, keep, *columnar.arrow_batches(path))
    elif facts.type == "xlsx":
        raise DataError("is a workbook; save the sheet as CSV", file=path)
    else:
        found = _open_text(facts, options, keep)
    found.state = state or FileState.of(path)
    return found


def _open_text(facts: InspectedFile, options: ReadOptions, keep: Sequence[str] | None) -> TextSource:
    with open_text_table(facts, options, no_progress) as table:
        sample = table.sample()
        columns = choose_text_column(table.columns, sample, options, facts.path)
        text = columns.needed.text
        if isinstance(table, DelimitedTable):
            names = tuple(name or f"column {number}" for number, name in enumerate(table.columns, 1))
            kept = _kept_indices(names, keep, facts.path)
            dialect = CsvDialect(table.delimiter, table.is_escaped)
            parser: Any = DelimitedParser(dialect, names, text, kept)
            layout = TextLayout(table.preamble_lines, options.has_header, dialect)
        elif isinstance(table, JsonLinesTable):
            names = table.columns
            kept = _kept_indices(names, keep, facts.path)
            first = table.first_objects[:SAMPLE_ROWS]
            types = tuple((names[i], column_type([one.get(names[i]) for one in first])) for i in kept)
            parser = JsonLinesParser(names[text], types)
            layout = TextLayout()
        else:
            raise DataError("holds fastText label lines; convert it to CSV to score it", file=facts.path)
        source = TextSource(facts, layout, parser, names[text])
        assumed = list(facts.assumed)
        if facts.damaged_at is not None:
            assumed = [f"UTF-8, although byte {facts.damaged_at:,} is not; such rows are rejected"]
        guessed = [f"text column {names[text]!r}"] if columns.guessed else []
        source.assumed = (*assumed, *table.assumed, *guessed)
    return source


def _kept_indices(names: Sequence[str], keep: Sequence[str] | None, path: Path) -> tuple[int, ...]:
    kept = names if keep is None else keep
    for name in kept:
        if name not in names:
            listed = ", ".join(map(repr, names[:20]))
            raise DataError(f"has no column {name!r} to keep; it has {listed}", file=path)
        # columns are found by name: the second one would be lost
        if names.count(name) > 1:
            problem = "the header names this column twice; rename one, or choose columns with --keep"
            raise DataError(problem, file=path, column=name)
    return tuple(names.index(name) for name in kept)


def _open_columnar(
    facts: InspectedFile,
    options: ReadOptions,
    keep: Sequence[str] | None,
    schema: Any,
    n_rows: int,
    batches: columnar.Batches,
) -> ColumnarSource:
    first = next(batches(None), None)
    sample = [] if first is None else columnar.sample_rows(first.slice(0, SAMPLE_ROWS))
    chosen = choose_text_column(schema.names, sample, options, facts.path)
    text = schema.names[chosen.needed.text]
    if pyarrow.types.is_nested(schema.field(text).type):
        raise DataError("must be text, not a list or a struct", file=facts.path, column=text)
    kept = [schema.names[i] for i in _kept_indices(schema.names, keep, facts.path)]
    fields = [(name, columnar.plain_type(schema.field(name).type)) for name in kept]
    parser = columnar.ColumnarParser(tuple(kept))
    source = ColumnarSource(facts, parser, pyarrow.schema(fields), columns=[text, *kept], n_rows=n_rows)
    source.batches = batches
    source.assumed = (f"text column {text!r}",) if chosen.guessed else ()
    return source
