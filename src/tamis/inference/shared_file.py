"""A small file of counts that all workers share, read and written under its lock.

It is accessed by `pread` and `pwrite` and never mapped, so a truncated file does not kill the process.
Without a usable file, the counts stay in this process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

# a stopped worker may hold the lock: counts stay in this process until the next flush. Polled, because no
# event reports that a file lock was released, and a blocking `lockf` has no deadline
_LOCK_SECONDS = 0.5
_POLL_SECONDS = 0.002

_log = logging.getLogger(__name__)


@final
class SharedFile:
    """A file of `size` bytes; `subject` names its counts in log events."""

    def __init__(self, path: Path, size: int, *, subject: str):
        self.path, self.size, self._subject = path, size, subject
        self._memory: bytearray | None = None
        self._thread = threading.Lock()  # the file's lock belongs to the process, not to a thread
        self._file = self._opened()

    def close(self) -> None:
        """Close the file; the counts stay in it."""
        with self._thread:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock; raises TimeoutError if another process keeps it, such as a stopped one."""
        with self._thread:
            file = self._file if self._memory is None else None
            if file is None:
                yield
                return
            is_locked = self._lock(file)
            try:
                yield
            finally:
                if is_locked:
                    fcntl.lockf(file, fcntl.LOCK_UN)

    def _lock(self, file: int) -> bool:
        """Lock the file; return False, counting in memory from now on, where the file system has no locks."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.path} is locked by another process") from None
                time.sleep(_POLL_SECONDS)
            except OSError as failed:
                self._keep_in_memory(failed)
                return False

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file, zeros beyond its end."""
        found = b""
        if self._memory is None and self._file is not None:
            try:
                found = os.pread(self._file, size, offset)
            except OSError as failed:
                self._keep_in_memory(failed)
        if self._memory is not None:
            found = bytes(self._memory[offset : offset + size])
        # a new or truncated file: its zeros match no header
        return found.ljust(size, b"\0")

    def write(self, data: bytes, offset: int) -> None:
        """Write bytes at an offset."""
        if self._memory is None and self._file is not None:
            try:
                os.pwrite(self._file, data, offset)
                return
            except OSError as failed:
                self._keep_in_memory(failed)
        if self._memory is not None:
            self._memory[offset : offset + len(data)] = data

    def _opened(self) -> int | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_NOFOLLOW: a link of this name must not make the service write to another file
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as failed:
            self._keep_in_memory(failed)
            return None

    def _keep_in_memory(self, failed: OSError) -> None:
        """Count in this process from now on, starting from zero."""
        # zeros: what the file holds belongs to all workers, and would be counted twice
        self._memory = bytearray(self.size)
        fields = {"file": str(self.path), "reason": failed.strerror or str(failed)}
        _log.warning("%s counted in memory", self._subject, extra={"fields": fields})
