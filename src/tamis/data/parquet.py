"""A Parquet file as a table, read batch by batch. Knows pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tamis.data.encoding import FileFacts
from tamis.data.options import ReadOptions
from tamis.data.tables import ROWS_BETWEEN_PROGRESS, SAMPLE_ROWS, Needed, Record, Table
from tamis.errors import DataError, MissingExtraError
from tamis.types import Progress

_BATCH_ROWS = 4096


@contextmanager
def open_parquet(facts: FileFacts, options: ReadOptions, progress: Progress) -> Iterator[Table]:
    """Open the file of `facts`; raise MissingExtraError without pyarrow."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise MissingExtraError(f"reading {facts.path} (Parquet)", "parquet") from None
    try:
        with ParquetFile(facts.path, memory_map=False, pre_buffer=False) as file:
            yield ParquetTable(file, facts, progress)
    except (pyarrow.ArrowException, OSError) as broken:
        raise DataError("is a damaged Parquet file; write it again", file=facts.path) from broken


class ParquetTable(Table):
    """The rows of a Parquet file; only needed columns are decoded."""

    def __init__(self, file: Any, facts: FileFacts, progress: Progress) -> None:
        self._file, self._facts, self._progress = file, facts, progress
        self.columns = tuple(file.schema_arrow.names)

    def sample(self) -> list[Sequence[str]]:
        """Return the first rows, cells that are no text or number being empty."""
        batch = next(self._file.iter_batches(batch_size=SAMPLE_ROWS), None)
        if batch is None:
            return []
        columns = [[_as_text(value) or "" for value in column.to_pylist()] for column in batch.columns]
        return [list(cells) for cells in zip(*columns, strict=True)]

    def records(self, needed: Needed) -> Iterator[Record]:
        """Yield every row; raise DataError if a needed value is nested."""
        indices = sorted({needed.label, needed.text, *needed.others})
        names = [self.columns[i] for i in indices]
        row, total = 0, max(1, self._file.metadata.num_rows)
        for batch in self._file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            values = [batch.column(name).to_pylist() for name in names]
            for number in range(batch.num_rows):
                row += 1
                cells = [""] * len(self.columns)
                for i, column in zip(indices, values, strict=True):
                    cell = _as_text(column[number])
                    if cell is None:
                        raise DataError(
                            "must be text or a number", file=self._facts.path, row=row, column=self.columns[i]
                        )
                    cells[i] = cell
                yield Record(row, row, cells)
                if row % ROWS_BETWEEN_PROGRESS == 0:
                    self._progress(self._facts.size_bytes * row // total, self._facts.size_bytes)
        self._progress(self._facts.size_bytes, self._facts.size_bytes)


def _as_text(value: object) -> str | None:
    """Return a value as a cell, None if it is nested."""
    if value is None or value != value:  # NaN: pandas writes it for a missing value
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, list | dict) else str(value)
