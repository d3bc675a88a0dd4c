"""Compressed text files as streams: gzip by the standard library, zstd by pyarrow."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from tamis.errors import DataError, MissingExtraError

FileType = Literal["text", "gzip", "zstd", "xlsx", "parquet", "arrow"]


def decompressed(file: BinaryIO, kind: FileType, path: Path) -> BinaryIO:
    """Return a stream of the bytes before compression; the file itself if it is not compressed."""
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if kind == "zstd":
        return cast(BinaryIO, io.BufferedReader(_ZstdStream(file, path)))
    return file


class _ZstdStream(io.RawIOBase):
    """The contents of a zstd file; raises DataError if it is damaged or cut off."""

    def __init__(self, file: BinaryIO, path: Path):
        try:
            import pyarrow
        except ModuleNotFoundError:
            raise MissingExtraError(f"reading {path} (zstd)", "batch") from None
        self._path = path
        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")

    def readable(self) -> bool:
        """Return True, as every stream that is read must."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        try:
            data = self._stream.read(len(view))
        except OSError as broken:
            problem = "is a damaged or incomplete zstd file; download or compress it again"
            raise DataError(problem, file=self._path) from broken
        view[: len(data)] = data
        return len(data)
