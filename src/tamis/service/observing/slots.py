"""Numbers that one process writes and every process of the service reads: one small mapped file each.

A process takes the first file of the directory that no living process holds and goes on from the
numbers in it: what a killed process had counted stays counted, and there are no more files than
processes at one time. The lock is the kernel's and ends with its process.

Each process writes only its own file, from one thread, so nothing is counted twice or lost; a number
is eight aligned bytes, which the processor reads and writes whole. Knows no metric.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_HEADER = struct.Struct("=24sQ")
"""The layout's digest, and the process that writes."""

LAYOUT_BYTES = 24
_SUFFIX = ".metrics"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of one file, whose process `is_alive` or is not."""

    number: int
    process: int
    is_alive: bool
    values: Sequence[float]


class Slots:
    """This process's numbers, as `values`, and a look at everybody's.

    Without a directory nobody else sees them. `layout` is the digest of what the numbers mean:
    files of another meaning are left alone.
    """

    def __init__(self, size: int, layout: bytes, directory: Path | None = None):
        self._directory, self._layout, self._size = directory, layout, size
        self._file = -1
        self.number = 0
        mapped = mmap.mmap(-1, self._bytes) if directory is None else self._claim(directory)
        self.values: memoryview[float] = memoryview(mapped)[_HEADER.size :].cast("d")

    def everyone(self) -> list[Snapshot]:
        """Return the numbers of every process there is or was, in the order of their files."""
        if self._directory is None:
            return [Snapshot(0, os.getpid(), True, self.values.tolist())]
        snapshots = map(self._read, sorted(self._directory.glob(f"*{_SUFFIX}")))
        return sorted((found for found in snapshots if found), key=lambda found: found.number)

    @property
    def _bytes(self) -> int:
        return _HEADER.size + 8 * self._size

    def _claim(self, directory: Path) -> mmap.mmap:
        for self.number in count():
            self._file = os.open(directory / f"{self.number}{_SUFFIX}", os.O_RDWR | os.O_CREAT, 0o600)
            mapped = self._take()
            if mapped is not None:
                return mapped
            os.close(self._file)
        raise AssertionError("numbers do not end")

    def _take(self) -> mmap.mmap | None:
        """Lock the open file and map it, unless another process holds it or it is of another layout."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if os.fstat(self._file).st_size == 0:
            os.ftruncate(self._file, self._bytes)
        elif self._snapshot(self._file, self.number, is_alive=True) is None:
            return None
        mapped = mmap.mmap(self._file, self._bytes)
        _HEADER.pack_into(mapped, 0, self._layout, os.getpid())
        return mapped

    def _read(self, path: Path) -> Snapshot | None:
        file = os.open(path, os.O_RDONLY)
        try:
            return self._snapshot(file, int(path.stem), is_alive=_is_locked(file))
        finally:
            os.close(file)

    def _snapshot(self, file: int, number: int, *, is_alive: bool) -> Snapshot | None:
        """Copy the numbers of a file; None if it is of another layout or its process has just begun."""
        if os.fstat(file).st_size != self._bytes:
            return None
        with mmap.mmap(file, self._bytes, prot=mmap.PROT_READ) as mapped:
            layout, process = _HEADER.unpack_from(mapped)
            if layout not in (self._layout, bytes(LAYOUT_BYTES)):
                return None
            with memoryview(mapped) as whole, whole[_HEADER.size :] as raw, raw.cast("d") as values:
                return Snapshot(number, process, is_alive, values.tolist())


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
