"""What a data file is as bytes: its digest, its size and its encoding.

Knows byte-order marks, UTF-8, UTF-16 and cp1252; does not know columns or rows.
"""

from __future__ import annotations

import codecs
import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tamis.errors import DataError

_CHUNK_BYTES = 1 << 20
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as bytes; `encoding` is a codec name, `invalid_utf8_at` the offset that ruled UTF-8 out."""

    path: Path
    sha256: str
    size_bytes: int
    encoding: str
    invalid_utf8_at: int | None = None


def examine(path: Path) -> FileFacts:
    """Read `path` once, in pieces, for its digest and encoding; raise DataError where it is no text."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError("is a folder, not a CSV file", file=path)
        if not stat.S_ISREG(mode):
            raise DataError(
                "is not a regular file; save it to one first, because it is read twice", file=path
            )
        with path.open("rb") as file:
            return _examine(path, file)
    except OSError as failed:
        raise DataError(f"cannot be read: {failed.strerror}", file=path) from failed


def _examine(path: Path, file: BinaryIO) -> FileFacts:
    start = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    digest, check = hashlib.sha256(), _Utf8Check()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        # UTF-16 is left to the parser: nothing else starts with its mark, and NUL is normal in it.
        if encoding != "utf-16" and b"\0" in chunk:
            at = check.size_bytes + chunk.index(b"\0")
            raise DataError(f"byte {at} is NUL: this is no text file, or UTF-16 without its mark", file=path)
        check.feed(chunk)
    check.feed(b"", final=True)
    if encoding == "utf-16" or check.invalid_at is None:
        return FileFacts(path, digest.hexdigest(), check.size_bytes, encoding)
    if encoding == "utf-8-sig":
        problem = (
            f"starts with the mark of UTF-8, but byte {check.invalid_at} is not UTF-8; save it as UTF-8 again"
        )
        raise DataError(problem, file=path)
    return FileFacts(path, digest.hexdigest(), check.size_bytes, "cp1252", check.invalid_at)


class _Utf8Check:
    """Finds the first byte that is not UTF-8 in a file that arrives in pieces."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.invalid_at: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        """Look at the next piece; `final` says that none will follow."""
        if self.invalid_at is None:
            kept_back = len(self._decoder.getstate()[0])
            try:
                self._decoder.decode(chunk, final)
            except UnicodeDecodeError as failed:
                self.invalid_at = self.size_bytes - kept_back + failed.start
        self.size_bytes += len(chunk)
