"""The rows of one input file, as blocks: text is decoded and cut, columns are read batch by batch.

Knows encodings and compression; does not know what rows mean.
"""

from __future__ import annotations

import codecs
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tamis.batch import columnar
from tamis.batch.blocks import BlockParser, FileRange, cut_records
from tamis.batch.delimited import CsvDialect
from tamis.batch.object_store import ObjectState
from tamis.data.inspection import InspectedFile
from tamis.errors import DataError

_CHUNK_BYTES = 1 << 20
# in these the bytes are UTF-8 already, so that positions in the file and in the text agree
_ENCODINGS_AS_THEY_ARE = frozenset({"utf-8", "utf-8-sig", "utf8", "ascii", "us-ascii"})


class FileState(NamedTuple):
    """What changes when a file is written to."""

    size: int
    modified_ns: int
    # differs also when a file of equal size and time takes the place of another
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at the file."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class FileSource(ABC):
    """An input that has been inspected.

    path:    the file that is read
    name:    what the input is called in messages
    state:   of the file, when it was inspected
    remote:  the object that the file is a copy of, None if it is no copy
    sha256:  digest of the file's bytes
    schema:  Arrow schema of the columns that are carried through
    assumed: what was inferred, not given, one phrase each
    """

    state: FileState
    remote: ObjectState | None = None
    assumed: tuple[str, ...]

    def __init__(self, facts: InspectedFile, parser: BlockParser, schema: Any, text_column: str):
        self.path, self.sha256, self.size_bytes = facts.path, facts.sha256, facts.size_bytes
        self.name = str(facts.path)
        self.parser, self.schema, self.text_column = parser, schema, text_column

    @abstractmethod
    def blocks(self, block_bytes: int) -> Iterator[tuple[bytes | FileRange, int]]:
        """Yield each block and the position in the file after it; the same ones at every call."""

    def check_unchanged(self) -> None:
        """Raise DataError if the file was written to since it was inspected."""
        if not self.path.exists() or FileState.of(self.path) != self.state:
            raise DataError("was changed while it was being read; run again with --restart", file=self.name)
        if self.remote is not None:
            self.remote.check_unchanged()


@dataclass(frozen=True)
class TextLayout:
    """Where the rows of a text file begin, and what separates them."""

    preamble_lines: int = 0
    has_header: bool = False
    dialect: CsvDialect | None = None


class TextSource(FileSource):
    """Delimited text or JSON lines, compressed or not, in any encoding."""

    def __init__(self, facts: InspectedFile, layout: TextLayout, parser: Any, text_column: str):
        super().__init__(facts, parser, parser.schema(), text_column)
        self._facts, self._layout = facts, layout

    def blocks(self, block_bytes: int) -> Iterator[tuple[bytes | FileRange, int]]:
        """Yield whole records, read again by the worker if the file is plain UTF-8."""
        is_plain = self._facts.type == "text" and self._facts.encoding in _ENCODINGS_AS_THEY_ARE
        with self.path.open("rb") as opened:
            file = _CountedFile(opened)
            # cut as UTF-8, whatever the encoding: an ASCII delimiter is part of no other character there
            start, rows = _after_header(self._utf8_chunks(file), self._layout)
            for offset, data in cut_records(rows, block_bytes, self._last_record, self.path):
                # the worker reads the range itself: sending the bytes would copy them through a pipe
                if is_plain:
                    at = start + offset
                    url = self.remote.url if self.remote else ""
                    yield FileRange(os.fspath(self.path.resolve()), at, len(data), url), at + len(data)
                else:
                    yield data, file.position

    def _last_record(self, data: bytes) -> int:
        dialect = self._layout.dialect
        # JSON lines have no line feed within a record
        return data.rfind(b"\n") + 1 if dialect is None else dialect.last_record(data)

    def _utf8_chunks(self, file: Any) -> Iterator[bytes]:
        stream = self._facts.decompressed(file)
        encoding = self._facts.encoding or "utf-8"
        if encoding in _ENCODINGS_AS_THEY_ARE:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
            return
        # a chunk may end within a character
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
            yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
        except UnicodeError:
            problem = f"is not valid {encoding}; name the encoding with --encoding"
            raise DataError(problem, file=self.path) from None


class _CountedFile:
    """A file whose position is known even after a decompressor has closed it."""

    closed = False

    def __init__(self, file: BinaryIO):
        self._file = file
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        data = self._file.read(size)
        self.position += len(data)
        return data

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""


def _after_header(chunks: Iterator[bytes], layout: TextLayout) -> tuple[int, Iterator[bytes]]:
    """Return the offset of the first data row and the bytes from there on."""
    start = bytearray()
    for chunk in chunks:
        start += chunk
        # enough to hold preamble and header
        if len(start) >= 2 * _CHUNK_BYTES:
            break
    found = bytes(start)
    at = len(codecs.BOM_UTF8) if found.startswith(codecs.BOM_UTF8) else 0
    for line in found[at:].splitlines(keepends=True)[: layout.preamble_lines]:
        at += len(line)
    if layout.has_header and layout.dialect is not None:
        at += layout.dialect.first_record(found[at:])
    return at, chain([found[at:]], chunks)


class ColumnarSource(FileSource):
    """A Parquet or Arrow file."""

    def __init__(
        self, facts: InspectedFile, parser: Any, schema: Any, *, columns: Sequence[str], n_rows: int
    ):
        super().__init__(facts, parser, schema, columns[0])
        self._columns, self._n_rows = columns, n_rows
        self.batches: columnar.Batches

    def blocks(self, block_bytes: int) -> Iterator[tuple[bytes | FileRange, int]]:
        """Yield Arrow streams; the position is the share of the rows."""
        needed = list(dict.fromkeys(self._columns))
        batches = (batch.select(list(self._columns)) for batch in self.batches(needed))
        for data, done in columnar.row_blocks(batches, block_bytes):
            yield data, self.size_bytes * done // max(1, self._n_rows)
