"""What a data file is as bytes: its type, its digest, its encoding and how its quotes are escaped.

A file is read once, in pieces, before its rows are. One that holds no rows is refused with what it is
and what to do. Does not know rows or columns.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

from tamis.data.encoding import TextScan, known_codec
from tamis.errors import DataError, MissingExtraError

FileType = Literal["text", "gzip", "zstd", "xlsx", "parquet", "arrow"]

_TYPES: dict[bytes, FileType] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"ARROW1": "arrow",
    b"PAR1": "parquet",
}
_CHUNK_BYTES = 1 << 20

START_BYTES = 1024
"""How much of a file's start `file_type` looks at."""

# a clone without Git LFS has this text in place of the file
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = re.compile(rb"\s*<(!doctype html|html|head|body|\?xml)\b", re.IGNORECASE)
_UTF8_MARK = b"\xef\xbb\xbf"
_COMPRESSED = "unpack it, or compress it with gzip instead"
# unpacked: a workbook is a ZIP archive, which may be a thousand times smaller than its contents
_MAX_WORKBOOK_BYTES = 2 << 30

# what users name by mistake; read as text each would end in an error about its bytes
_FOREIGN = (
    (b"%PDF-", "a PDF document", "export the table in it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel 2003 or older (.xls)", "save it as .xlsx or as CSV"),
    (b"BZh", "compressed with bzip2", _COMPRESSED),
    (b"\xfd7zXZ\0", "compressed with xz", _COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and name the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and name the file inside"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "export the table as CSV"),
    (b"\x93NUMPY", "a NumPy array", "save labels and texts as CSV"),
    (b"Obj\x01", "an Avro file", "save it as Parquet or CSV"),
    (b"ORC", "an ORC file", "save it as Parquet or CSV"),
    (b"\x80\x04\x95", "a pickle, which is never loaded because it can run code", "save it as CSV"),
    (b"\x89PNG", "an image", "name a file of labels and texts"),
    (b"\xff\xd8\xff", "an image", "name a file of labels and texts"),
    (b"\x7fELF", "a program", "name a file of labels and texts"),
)


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """A file as bytes.

    encoding:        a codec name; None for types that are no text
    confidence:      of a detected encoding, 0 to 1; None if it was named or is certain
    damaged_at:      offset of the first byte that is not UTF-8 in a file that is UTF-8 otherwise
    is_escaped:      whether a backslash precedes a quote inside a text, which plain CSV never has
    """

    path: Path
    sha256: str
    size_bytes: int
    type: FileType
    encoding: str | None
    confidence: float | None = None
    damaged_at: int | None = None
    is_escaped: bool = False

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed about the encoding, one phrase each."""
        if self.confidence is not None:
            return (f"encoding {self.encoding} (detected, confidence {self.confidence:.0%})",)
        if self.damaged_at is not None:
            return (f"UTF-8 with damaged characters, the first at byte {self.damaged_at}",)
        return ()

    def decompressed(self, file: BinaryIO) -> BinaryIO:
        """Return the text's bytes from the open file."""
        return decompressed(file, self.type, self.path)

    def open_text(self) -> tuple[TextIO, BinaryIO]:
        """Open the decoded text, and the file itself, whose position is the progress of reading."""
        file = self.path.open("rb")
        stream = self.decompressed(file)
        errors = "replace" if self.damaged_at is not None else "strict"
        return io.TextIOWrapper(stream, encoding=self.encoding, errors=errors, newline=""), file


def inspect_file(path: Path, encoding: str | None = None) -> InspectedFile:
    """Read `path` once for its digest and encoding; raise DataError if it cannot hold labelled texts.

    `encoding` names it if the user knows it.
    """
    if encoding is not None:
        encoding = known_codec(encoding, path)
    try:
        mode = path.stat().st_mode
        # before open(): opening a named pipe would wait for a writer
        if stat.S_ISDIR(mode):
            raise DataError("is a folder, not a data file", file=path)
        if not stat.S_ISREG(mode):
            raise DataError("is not a regular file; save it to one, because it is read twice", file=path)
        with path.open("rb") as file:
            return _inspect(path, file, encoding)
    # zlib raises its own error for damage after a valid header
    except (gzip.BadGzipFile, EOFError, zlib.error) as broken:
        problem = "is a damaged or incomplete gzip file; download or compress it again"
        raise DataError(problem, file=path) from broken
    except OSError as failed:
        raise DataError(f"cannot be read: {failed.strerror}", file=path) from failed


def _inspect(path: Path, file: BinaryIO, encoding: str | None) -> InspectedFile:
    start = file.read(START_BYTES)
    type_ = file_type(path, start)
    file.seek(0)
    source = _HashedFile(file)
    # no text to scan; read for the digest
    if type_ in ("xlsx", "parquet", "arrow"):
        while source.read(_CHUNK_BYTES):
            pass
        return InspectedFile(path, source.digest.hexdigest(), source.size_bytes, type_, None)
    stream = decompressed(cast(BinaryIO, source), type_, path)
    scan = TextScan(path, encoding)
    while chunk := stream.read(_CHUNK_BYTES):
        if scan.size == 0:
            check_text_start(path, chunk[:START_BYTES])  # again: what was compressed may be anything
        scan.feed(chunk)
    found = scan.finish()
    while source.read(_CHUNK_BYTES):  # data may follow the compressed part
        pass
    return InspectedFile(path, source.digest.hexdigest(), source.size_bytes, type_, *found)


class _HashedFile:
    """A file that is hashed while it is read."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        data = self._file.read(size)
        self.digest.update(data)
        self.size_bytes += len(data)
        return data

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""


def file_type(path: Path, start: bytes) -> FileType:
    """Return how the file that begins with `start` is to be opened; raise DataError if it holds no rows."""
    for signature, type_ in _TYPES.items():
        if start.startswith(signature):
            return type_
    if start.startswith(b"PK\x03\x04"):
        return _zip_type(path)
    check_text_start(path, start)
    return "text"


def check_text_start(path: Path, start: bytes) -> None:
    """Raise DataError that names what the file is, unless `start` may be the start of a text file."""
    for signature, what, remedy in _FOREIGN:
        if start.startswith(signature):
            raise DataError(f"is {what}; {remedy}", file=path)
    if start.startswith(_LFS_POINTER):
        raise DataError("is a Git LFS pointer, not the data; get it with `git lfs pull`", file=path)
    # a failed download is often an HTML page under the name of the file
    markup = _MARKUP.match(start.removeprefix(_UTF8_MARK))
    if markup is not None:
        what = "an XML document" if markup[1].startswith(b"?") else "an HTML page"
        raise DataError(f"is {what}, not a table; download or export the data file itself", file=path)


def _zip_type(path: Path) -> FileType:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        # the central directory is at the end: a partial download has none
        raise DataError("is a damaged zip archive; download or export it again", file=path) from None
    # workbooks and OpenDocument files are ZIP archives
    names = {member.filename for member in members}
    if "xl/workbook.xml" in names:
        if sum(member.file_size for member in members) > _MAX_WORKBOOK_BYTES:
            raise DataError("is a workbook of more than 2 GB; save the sheet as CSV", file=path)
        return "xlsx"
    if "content.xml" in names:
        raise DataError("is an OpenDocument file; save the sheet as .xlsx or as CSV", file=path)
    raise DataError("is a zip archive; unpack it and name the file inside", file=path)


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
        # pyarrow reads Parquet for the same users; Python 3.11 has no zstd of its own
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
