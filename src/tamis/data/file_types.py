"""What a file is by its first bytes, and what to do about one that holds no rows.

Knows the signatures of common file types; does not know rows or columns.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal

from tamis.errors import DataError

FileType = Literal["text", "gzip", "xlsx", "parquet"]

START_BYTES = 1024
"""How much of a file's start `file_type` looks at."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = re.compile(rb"\s*<(!doctype html|html|head|body|\?xml)\b", re.IGNORECASE)
_UTF8_MARK = b"\xef\xbb\xbf"
_COMPRESSED = "unpack it, or compress it with gzip instead"
_MAX_WORKBOOK_BYTES = 2 << 30

_FOREIGN = (
    (b"%PDF-", "a PDF document", "export the table in it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel 2003 or older (.xls)", "save it as .xlsx or as CSV"),
    (b"BZh", "compressed with bzip2", _COMPRESSED),
    (b"\xfd7zXZ\0", "compressed with xz", _COMPRESSED),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and name the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and name the file inside"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "export the table as CSV"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy array", "save labels and texts as CSV"),
    (b"Obj\x01", "an Avro file", "save it as Parquet or CSV"),
    (b"ORC", "an ORC file", "save it as Parquet or CSV"),
    (b"\x80\x04\x95", "a pickle, which is never loaded because it can run code", "save it as CSV"),
    (b"\x89PNG", "an image", "name a file of labels and texts"),
    (b"\xff\xd8\xff", "an image", "name a file of labels and texts"),
    (b"\x7fELF", "a program", "name a file of labels and texts"),
)


def file_type(path: Path, start: bytes) -> FileType:
    """Return how the file that begins with `start` is to be opened; raise DataError if it holds no rows."""
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith(b"PAR1"):
        return "parquet"
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
    markup = _MARKUP.match(start.removeprefix(_UTF8_MARK))
    if markup is not None:
        what = "an XML document" if markup[1].startswith(b"?") else "an HTML page"
        raise DataError(f"is {what}, not a table; download or export the data file itself", file=path)


def _zip_type(path: Path) -> FileType:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise DataError("is a damaged zip archive; download or export it again", file=path) from None
    names = {member.filename for member in members}
    if "xl/workbook.xml" in names:
        if sum(member.file_size for member in members) > _MAX_WORKBOOK_BYTES:
            raise DataError("is a workbook of more than 2 GB; save the sheet as CSV", file=path)
        return "xlsx"
    if "content.xml" in names:
        raise DataError("is an OpenDocument file; save the sheet as .xlsx or as CSV", file=path)
    raise DataError("is a zip archive; unpack it and name the file inside", file=path)
