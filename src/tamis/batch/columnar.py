"""Parquet and Arrow files in blocks of rows, only the needed columns decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

from tamis.batch.blocks import BlockParser, ParsedBlock, record_batch
from tamis.data.table_formats import value_text
from tamis.errors import DataError

# small batches, so that blocks come close to their size in bytes
_READ_ROWS = 4096
# short rows: bounds the memory of the predictions, which have a size per row
MAX_BLOCK_ROWS = 1 << 17

Batches = Callable[[Sequence[str] | None], Iterator[Any]]


@dataclass(frozen=True)
class ColumnarParser(BlockParser):
    """Reads blocks that are Arrow streams of one record batch: the text column, then the kept ones."""

    columns: tuple[str, ...]

    def parse(self, data: bytes, *, is_last: bool) -> ParsedBlock:
        """Return the rows of a block."""
        batch = pyarrow.ipc.open_stream(pyarrow.py_buffer(data)).read_next_batch()
        texts = text_array(batch.column(0))
        columns = [plain(column) for column in batch.columns[1:]]
        fields = [(name, column.type) for name, column in zip(self.columns, columns, strict=True)]
        kept = record_batch(columns, pyarrow.schema(fields), batch.num_rows)
        return ParsedBlock(texts, kept, None, batch.num_rows)


def text_array(column: Any) -> Any:
    """Return a column of any scalar type as text, without copying one that is text already."""
    column = plain(column)
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        return column
    # NaN differs from itself: a number that is missing is no text
    values = (None if value is None or value != value else value_text(value) for value in column.to_pylist())
    return pyarrow.array(list(values), pyarrow.large_string())


def plain(column: Any) -> Any:
    """Return a column without dictionary encoding, which may differ between blocks, and without views."""
    kind = plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def plain_type(kind: Any) -> Any:
    """Return the type of what `plain` returns."""
    if pyarrow.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pyarrow.types.is_string_view(kind):
        return pyarrow.large_string()
    return pyarrow.large_binary() if pyarrow.types.is_binary_view(kind) else kind


def parquet_batches(path: Path) -> tuple[Any, int, Batches]:
    """Return schema, number of rows, and what reads some columns of a Parquet file."""
    with _open_parquet(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows

    def batches(columns: Sequence[str] | None) -> Iterator[Any]:
        with _open_parquet(path) as file:
            try:
                yield from file.iter_batches(batch_size=_READ_ROWS, columns=columns, use_threads=False)
            except (pyarrow.ArrowException, OSError) as broken:
                raise DataError("is a damaged Parquet file; write it again", file=path) from broken

    return schema, n_rows, batches


def _open_parquet(path: Path) -> Any:
    try:
        # read in buffers of 1 MB: with `pre_buffer`, whole row groups would be in memory
        return ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1 << 20)
    except (pyarrow.ArrowException, OSError) as broken:
        raise DataError("is a damaged Parquet file; write it again", file=path) from broken


def arrow_batches(path: Path) -> tuple[Any, int, Batches]:
    """Return schema, number of rows, and what reads some columns of an Arrow (Feather) file."""
    with _open_arrow(path) as file:
        schema = file.schema
        n_rows = sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))

    def batches(columns: Sequence[str] | None) -> Iterator[Any]:
        with _open_arrow(path) as file:
            for i in range(file.num_record_batches):
                whole = file.get_batch(i)
                batch = whole if columns is None else whole.select(list(columns))
                yield from (batch.slice(at, _READ_ROWS) for at in range(0, batch.num_rows, _READ_ROWS))

    return schema, n_rows, batches


def _open_arrow(path: Path) -> Any:
    try:
        # mapped: columns that are not needed are never read
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
    except (pyarrow.ArrowException, OSError) as broken:
        raise DataError("is a damaged Arrow file; write it again", file=path) from broken


def row_blocks(batches: Iterator[Any], block_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield Arrow streams of about `block_bytes` and the number of rows read so far."""
    waiting: list[Any] = []
    n_bytes = n_rows = total = 0
    for batch in batches:
        waiting.append(batch)
        n_bytes, n_rows, total = n_bytes + batch.nbytes, n_rows + batch.num_rows, total + batch.num_rows
        if n_bytes >= block_bytes or n_rows >= MAX_BLOCK_ROWS:
            yield _stream(waiting), total
            waiting, n_bytes, n_rows = [], 0, 0
    if waiting:
        yield _stream(waiting), total


def _stream(batches: Sequence[Any]) -> bytes:
    # batches of one file may have different dictionaries
    plain_batches = [
        pyarrow.RecordBatch.from_arrays([plain(column) for column in batch.columns], names=batch.schema.names)
        for batch in batches
    ]
    whole = pyarrow.concat_batches(plain_batches)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_batch(whole)
    return bytes(sink.getvalue())


def sample_rows(batch: Any) -> list[Sequence[str]]:
    """Return the cells of a record batch as text, nested ones being empty."""
    columns = [[value_text(value) or "" for value in column.to_pylist()] for column in batch.columns]
    return [list(cells) for cells in zip(*columns, strict=True)]
