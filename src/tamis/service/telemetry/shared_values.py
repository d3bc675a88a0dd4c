"""Values that one process writes and every process of the service reads, in slots of one shared memory.

    slot 0   digest of the layout (24 bytes) | process id | numbers of 8 bytes …   padded to whole pages
    slot 1   …                                                                     257 slots

A process claims the first slot that no living process holds and continues its numbers, so the counts of a
killed process are kept. The lock on a slot's byte is the kernel's and is released with its process. The
memory has no name in any file system and is freed with the last process; its size is sealed, so that no
access to it can fail.

Each process writes only its own slot, from one thread, so nothing is counted twice or lost; a number is eight
aligned bytes, which the processor reads and writes atomically.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_HEADER = struct.Struct("=24sQ")
"""The layout's digest, and the process that writes."""

LAYOUT_BYTES = 24
SLOTS = 256 + 1
"""The maximum number of workers, and one for a process that starts while another ends."""

_FLOCK = struct.Struct("hhqqi4x")
"""The C structure `flock`: type, whence, start, length, process."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of one slot, and whether its process is running."""

    number: int
    process: int
    is_alive: bool
    values: Sequence[float]


def make_shared_memory(size: int) -> int:
    """Return the descriptor of memory for `SLOTS` processes with `size` numbers each."""
    fd = os.memfd_create("tamis-metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    # whole pages: a worker of a newer version, with a few more numbers, still fits into a slot
    pages = -(-_bytes_of(size) // mmap.PAGESIZE)
    os.ftruncate(fd, SLOTS * pages * mmap.PAGESIZE)
    # a mapped file that was truncated used to kill its processes with SIGBUS
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class SharedValues:
    """This process's values, and snapshots of those of every process.

    Without shared memory, or if it has no free slot, other processes cannot see them. `layout` is the digest
    of the meaning of the numbers: slots of another layout are not touched. The descriptor must stay open:
    closing it, or a copy of it, would release the lock. A process claims only one slot.
    """

    def __init__(self, size: int, layout: bytes, shared_fd: int | None = None):
        self._layout, self._bytes, self._fd = layout, _bytes_of(size), shared_fd
        self._slot_bytes = 0 if shared_fd is None else os.fstat(shared_fd).st_size // SLOTS
        number = self._claim()
        self.is_shared = number is not None
        self.number = number or 0
        if shared_fd is None or number is None:
            self._memory = mmap.mmap(-1, self._bytes)
        else:
            self._memory = mmap.mmap(shared_fd, SLOTS * self._slot_bytes)
        _HEADER.pack_into(self._memory, self.number * self._slot_bytes, layout, os.getpid())
        self.values: memoryview[float] = self._numbers(self.number)

    def snapshots(self) -> list[Snapshot]:
        """Return the values of every process, running or ended, in the order of their slots."""
        if not self.is_shared:
            return [Snapshot(0, os.getpid(), True, self.values.tolist())]
        return [found for number in range(SLOTS) if (found := self._snapshot(number))]

    def _claim(self) -> int | None:
        """Lock the first free slot of this layout or without one; return None if there is none."""
        # too small: the memory was made by an older version whose supervisor starts newer workers
        if self._fd is None or self._slot_bytes < self._bytes:
            return None
        for number in range(SLOTS):
            if self._lock(number):
                if self._header(number)[0] in (self._layout, bytes(LAYOUT_BYTES)):
                    return number
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, number)
        return None

    def _lock(self, number: int) -> bool:
        assert self._fd is not None
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as failed:
            if failed.errno in (errno.EACCES, errno.EAGAIN):  # POSIX allows either for a held lock
                return False
            raise
        return True

    def _header(self, number: int) -> tuple[bytes, int]:
        """Read the layout and the process of a slot; unlike a mapped page, reading allocates no memory."""
        assert self._fd is not None
        layout, process = _HEADER.unpack(os.pread(self._fd, _HEADER.size, number * self._slot_bytes))
        return layout, process

    def _snapshot(self, number: int) -> Snapshot | None:
        """Copy the numbers of a slot; return None if it is unused or of another layout."""
        layout, process = self._header(number)
        if layout != self._layout:
            return None
        # fcntl never reports a process's own lock
        is_alive = number == self.number or self._is_locked(number)
        with self._numbers(number) as values:
            return Snapshot(number, process, is_alive, values.tolist())

    def _is_locked(self, number: int) -> bool:
        """Return whether another process holds a slot, without a lock that could block a new process."""
        assert self._fd is not None
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        return bool(_FLOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)

    def _numbers(self, number: int) -> memoryview[float]:
        first = number * self._slot_bytes
        return memoryview(self._memory)[first + _HEADER.size : first + self._bytes].cast("d")


def _bytes_of(size: int) -> int:
    return _HEADER.size + 8 * size
