"""What sources hand to engines: blocks of an input, and how their bytes become columns.

A text input is cut where a record ends, at the last such place before a fixed size. Knows bytes and Arrow
arrays; does not know models or outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from tamis.batch.object_store import read_range
from tamis.errors import DataError

MAX_RECORD_BYTES = 64 << 20
"""Longest row of a text file; the reader of labelled data has the same limit."""


class FileRange(NamedTuple):
    """Bytes of a plain UTF-8 file, read by the process that scores them; `url` is that of the same object."""

    path: str
    offset: int
    length: int
    url: str = ""

    def read(self) -> bytes:
        """Return the bytes of the file, or of the object if there is no path; fewer if it is shorter."""
        if not self.path:
            return read_range(self.url, self.offset, self.length)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True, slots=True)
class InputBlock:
    """A part of one input.

    index:    of the part, counted over all inputs
    source:   index of the input
    data:     the bytes, or where they are
    is_last:  whether the input ends with this block
    position: bytes of the input file consumed up to the end of the block, for progress
    """

    index: int
    source: int
    data: bytes | FileRange
    is_last: bool
    position: int

    def read(self) -> bytes:
        """Return the block's bytes; raise DataError if the file has become shorter."""
        if isinstance(self.data, bytes):
            return self.data
        found = self.data.read()
        if len(found) != self.data.length:
            name = self.data.path or self.data.url
            raise DataError("was truncated while it was being read; run again", file=name)
        return found

    def for_another_machine(self) -> InputBlock:
        """Return the block that a machine can read which does not have the copy of an object."""
        if isinstance(self.data, bytes) or not self.data.url:
            return self
        return replace(self, data=self.data._replace(path=""))


class Rejection(NamedTuple):
    """A row that has no prediction: its number, counted from 1, and the reason."""

    row: int
    reason: str


@dataclass(frozen=True)
class ParsedBlock:
    """The rows of a block as columns.

    texts:    Arrow string array; null where a row has no text
    kept:     Arrow record batch of the columns that are carried through
    numbers:  the row number of each entry, None if they are 1, 2, 3, …
    n_rows:   rows of the block, rejected ones included
    """

    texts: Any
    kept: Any
    numbers: Sequence[int] | None
    n_rows: int
    rejected: Sequence[Rejection] = ()


class BlockParser(ABC):
    """Turns the bytes of one input's blocks into columns. Can be pickled."""

    @abstractmethod
    def parse(self, data: bytes, *, is_last: bool) -> ParsedBlock:
        """Return the rows of a block; rows that cannot be read are rejected one by one."""


class Cut(NamedTuple):
    """Whole records of a text input, and the offset of the first."""

    offset: int
    data: bytes


def cut_records(
    chunks: Iterator[bytes], block_bytes: int, last_record: Callable[[bytes], int], path: Path
) -> Iterator[Cut]:
    """Yield the bytes of `chunks` in blocks that begin with a record; how they are chunked does not matter.

    `last_record` returns the offset of the last record that begins in some bytes, which begin with one.
    Raises DataError for a record of more than 64 MB.
    """
    waiting, offset, goal = bytearray(), 0, block_bytes  # goal: bytes to search for the end of a record
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= goal:
            # exactly `goal` bytes, however much has arrived: blocks must not depend on the chunks
            found = bytes(memoryview(waiting)[:goal])
            end = last_record(found)
            if end:
                yield Cut(offset, found[:end])
                del waiting[:end]
                offset, goal = offset + end, block_bytes
            elif goal >= MAX_RECORD_BYTES:
                limit = MAX_RECORD_BYTES >> 20
                problem = f"the row at byte {offset:,} is longer than {limit} MB"
                raise DataError(f"{problem}; is a quote opened there and never closed?", file=path)
            else:
                # no record ends here: search twice as much, not byte by byte
                goal = min(2 * goal, MAX_RECORD_BYTES)
    if waiting:
        yield Cut(offset, bytes(waiting))


def record_batch(columns: Sequence[Any], schema: Any, n_rows: int) -> Any:
    """Return a record batch that has `n_rows` rows even if it has no column."""
    if columns:
        return pyarrow.RecordBatch.from_arrays(columns, schema=schema)
    # `from_arrays` without arrays would have no rows
    rows = pyarrow.array([{}] * n_rows, pyarrow.struct([]))
    return pyarrow.RecordBatch.from_struct_array(rows)
