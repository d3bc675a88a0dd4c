"""The physical lines of a text file, counted, with errors that name the line.

Knows lines; does not know cells.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from tamis.errors import DataError
from tamis.types import Progress


class Lines:
    """The lines of `stream`; the first ones can be looked at before they are read.

    `first_line` is the number of the first line that `rest` yields; `ended` says that the file's end was met.
    """

    def __init__(self, stream: TextIO, file: BinaryIO, path: Path, *, size_bytes: int, progress: Progress):
        self.path = path
        self.ended = False
        self.first_line = 1
        self._read = self._checked(stream)
        self._file, self._size, self._progress = file, size_bytes, progress
        self._waiting: list[str] = []

    def peek(self, n: int) -> list[str]:
        """Return up to `n` next lines without consuming them."""
        while len(self._waiting) < n and (line := next(self._read, None)) is not None:
            self._waiting.append(line)
        return self._waiting[:n]

    def skip(self, n: int = 1) -> None:
        """Drop the next `n` lines."""
        self.peek(n)
        del self._waiting[:n]
        self.first_line += n

    def rest(self) -> Iterator[str]:
        """Yield the lines that are left, once."""
        yield from self._waiting
        yield from self._read
        self.ended = True

    def report_progress(self, *, done: bool = False) -> None:
        """Tell the progress callback how far the file has been read."""
        self._progress(self._size if done else min(self._file.tell(), self._size), self._size)

    def _checked(self, stream: TextIO) -> Iterator[str]:
        count = 0
        try:
            for line in stream:
                count += 1
                yield line
        except UnicodeDecodeError as failed:
            number = count + 1 + failed.object[: failed.start].count(b"\n")
            problem = f"line {number} is not valid {failed.encoding}; name the encoding with --encoding"
            raise DataError(problem, file=self.path) from failed
        except UnicodeError as failed:  # such as UTF-16 without a byte-order mark
            problem = f"is not in the named encoding ({failed}); name another with --encoding"
            raise DataError(problem, file=self.path) from failed
        except (gzip.BadGzipFile, EOFError, zlib.error) as failed:
            problem = f"is damaged after line {count}; download or compress it again"
            raise DataError(problem, file=self.path) from failed
