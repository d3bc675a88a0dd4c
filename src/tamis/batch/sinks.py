"""Output formats: how a part is encoded, and how parts become one file.

The ending of the output's name chooses: .csv, .tsv, .jsonl (each also .gz, .zst), .parquet, .arrow. Parts of
text formats are joined as they are, also compressed. Those of a single Parquet or Arrow file are Arrow files.
"""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import msgspec
import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow.parquet import ParquetWriter

from tamis.errors import DataError

_ENDINGS = ".csv, .tsv, .jsonl, each also with .gz or .zst, .parquet or .arrow"


class Assembly(ABC):
    """A single output file that grows part by part, in their order."""

    @abstractmethod
    def add(self, part: Path) -> None:
        """Append a part."""

    @abstractmethod
    def close(self) -> None:
        """Write what belongs at the end."""


class OutputSink(ABC):
    """An output format. Can be pickled.

    has_metadata: whether a file can name the model that its predictions are from
    """

    part_suffix: str
    has_metadata: ClassVar[bool] = False

    @abstractmethod
    def encode_part(self, batch: Any) -> bytes:
        """Return the bytes of a part; the same record batch gives the same bytes."""

    @abstractmethod
    def assembly(self, file: BinaryIO, schema: Any) -> Assembly:
        """Begin a single output file; `schema` is that of every part, with the file's metadata."""

    def holds(self, kind: Any) -> bool:
        """Return whether the format can hold a column of an Arrow type."""
        return True


@dataclass(frozen=True)
class TextSink(OutputSink):
    """CSV, TSV or JSON lines.

    delimiter:   of delimited text; None for JSON lines
    compression: gzip, zstd or None
    has_headers: whether every part begins with a header, as in a folder of files
    """

    part_suffix: str
    delimiter: str | None = ","
    compression: str | None = None
    has_headers: bool = False

    def encode_part(self, batch: Any) -> bytes:
        """Return the rows as text."""
        head = self._header(batch.schema) if self.has_headers else b""
        return self._compressed(head + (_json_lines(batch) if self.delimiter is None else self._csv(batch)))

    def assembly(self, file: BinaryIO, schema: Any) -> Assembly:
        """Begin with the header."""
        return _JoinedFiles(file, self._compressed(self._header(schema)))

    def holds(self, kind: Any) -> bool:
        """Return False for lists and structs in delimited text."""
        return self.delimiter is None or not pyarrow.types.is_nested(kind)

    def _header(self, schema: Any) -> bytes:
        if self.delimiter is None:
            return b""
        # through the same writer: names are quoted as cells are
        arrays = [pyarrow.array([name]) for name in schema.names]
        return self._csv(pyarrow.RecordBatch.from_arrays(arrays, schema.names))

    def _csv(self, batch: Any) -> bytes:
        sink = pyarrow.BufferOutputStream()
        options = arrow_csv.WriteOptions(include_header=False, delimiter=self.delimiter)
        arrow_csv.write_csv(batch, sink, options)
        return bytes(sink.getvalue())

    def _compressed(self, data: bytes) -> bytes:
        if self.compression == "gzip":
            return gzip.compress(data, 6, mtime=0) if data else b""  # without a time: the same bytes again
        if self.compression == "zstd":
            # gzip members and zstd frames may be joined: together they are one valid file
            return bytes(pyarrow.compress(data, codec="zstd", asbytes=True)) if data else b""
        return data


class _JoinedFiles(Assembly):
    def __init__(self, file: BinaryIO, header: bytes):
        self._file = file
        file.write(header)

    def add(self, part: Path) -> None:
        """Append the bytes of a part."""
        with part.open("rb") as file:
            while data := file.read(1 << 20):
                self._file.write(data)

    def close(self) -> None:
        """Do nothing: the last part is the end."""


def _json_lines(batch: Any) -> bytes:
    names = {f"c{i}": name for i, name in enumerate(batch.schema.names)}
    # a struct per schema: encoded faster than a dictionary per row
    row = msgspec.defstruct("Row", [(name, Any) for name in names], rename=names)
    columns = [column.to_pylist() for column in batch.columns]
    return msgspec.json.Encoder(enc_hook=str).encode_lines(list(map(row, *columns)))


@dataclass(frozen=True)
class ArrowSink(OutputSink):
    """An Arrow file; the parts are Arrow files too."""

    part_suffix: str = ".arrow"
    has_metadata: ClassVar[bool] = True

    def encode_part(self, batch: Any) -> bytes:
        """Return an Arrow file of one record batch."""
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())

    def assembly(self, file: BinaryIO, schema: Any) -> Assembly:
        """Begin an Arrow file of all record batches."""
        return _Columnar(pyarrow.ipc.new_file(file, schema))


@dataclass(frozen=True)
class ParquetSink(ArrowSink):
    """One Parquet file, a row group per part."""

    def assembly(self, file: BinaryIO, schema: Any) -> Assembly:
        """Begin a Parquet file."""
        return _Columnar(ParquetWriter(file, schema, **_PARQUET))


@dataclass(frozen=True)
class ParquetFolderSink(OutputSink):
    """Parts that are Parquet files of their own."""

    part_suffix: str = ".parquet"
    has_metadata: ClassVar[bool] = True

    def encode_part(self, batch: Any) -> bytes:
        """Return a Parquet file of one row group."""
        sink = pyarrow.BufferOutputStream()
        with ParquetWriter(sink, batch.schema, **_PARQUET) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())

    def assembly(self, file: BinaryIO, schema: Any) -> Assembly:
        """Begin a Parquet file of all parts, which a folder never needs."""
        raise DataError("the parts of a folder are not joined")


# The small limit gives up dictionaries of texts and scores early: a third less time, and smaller files.
_PARQUET: Mapping[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "dictionary_pagesize_limit": 1 << 17,
}


class _Columnar(Assembly):
    def __init__(self, writer: Any):
        self._writer = writer

    def add(self, part: Path) -> None:
        """Append the record batches of a part."""
        with pyarrow.memory_map(str(part)) as source, pyarrow.ipc.open_file(source) as file:
            for i in range(file.num_record_batches):
                self._writer.write_batch(file.get_batch(i))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def sink_for(name: str, *, is_folder: bool) -> OutputSink:
    """Return the format that a file name's ending means; raise DataError for any other ending."""
    stem, compression = name.lower(), None
    for ending, codec in ((".gz", "gzip"), (".zst", "zstd")):
        if stem.endswith(ending):
            stem, compression = stem.removesuffix(ending), codec
    ending = stem[stem.rfind(".") :]
    suffix = name.lower()[stem.rfind(".") :]
    if ending in _DELIMITERS:
        return TextSink(suffix, _DELIMITERS[ending], compression, is_folder)
    if compression is None and ending == ".parquet":
        return ParquetFolderSink() if is_folder else ParquetSink()
    if compression is None and ending in (".arrow", ".feather"):
        return ArrowSink()
    raise DataError(f"the ending names no output format; use {_ENDINGS}", file=name)


_DELIMITERS: Mapping[str, str | None] = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None}
