"""The texts of a data file without their labels, one at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tamis.data.columns import choose_text_column
from tamis.data.encoding import inspect_file
from tamis.data.options import ReadOptions
from tamis.data.tables import open_table
from tamis.types import Notice, no_notice, no_progress

_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx", ".parquet"})


def is_table(path: Path) -> bool:
    """Return whether the file's name is that of a table, and not of a text per line."""
    name = Path(path.stem) if path.suffix == ".gz" else path
    return name.suffix.lower() in _TABLE_SUFFIXES


def read_texts(path: Path, options: ReadOptions, say: Notice = no_notice) -> Iterator[str]:
    """Yield the cells of the text column; `say` is called with what was assumed. Raises DataError."""
    facts = inspect_file(path, options.encoding)
    with open_table(facts, options, no_progress) as table:
        columns = choose_text_column(table.columns, table.sample(), options, path)
        assumed = [*facts.assumed, *table.assumed]
        assumed += [f"text column {columns.names.text!r}"] if columns.guessed else []
        if assumed:
            say(f"{path.name}: assumed {'; '.join(assumed)}")
        text = columns.needed.text
        for record in table.records(columns.needed):
            yield record.cells[text]
