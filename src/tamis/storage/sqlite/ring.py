"""One file of the prediction cache: a ring of slots of one size, the newest written over the oldest.

The file (`ring_format`) can be lost or damaged at any time: a slot that does not match its checksum is a
cache miss, and a file with a damaged header or head is removed and created again. It is removed by name and
never overwritten, so the target of a link of that name stays as it is.

    put ─► lock ─► head intact? ─► index what others wrote ─► slots ─► head ─► unlock ─► index the new keys
                   no ─► open or create again

One thread at a time writes (`put`); another may look keys up at the same moment. In an index that is just
being changed it finds at worst the slot of another key, which is a cache miss.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final
from zlib import crc32

import numpy as np

from tamis.storage.ids import KEY_BYTES
from tamis.storage.sqlite.ring_format import (
    CHECKSUM,
    HEAD_AT,
    MAGIC,
    PREFIX_BYTES,
    SLOTS_AT,
    pack_head,
    pack_header,
    scores_in,
    unpack_head,
)
from tamis.storage.sqlite.ring_index import Keys, RingIndex

_MANY_KEYS = 64
"""With this many keys numpy is faster than one key after the other."""

_SLOTS_PER_READ = 4_096
_MAX_FOLLOWED_SLOTS = 4_096
"""Slots of other processes that a lookup reads, in about a millisecond; `put` reads any number."""

# a cache is not worth a longer wait: writers hold the lock for microseconds. Polled, because no event reports
# that flock was released, and a blocking flock has no deadline
_LOCK_SECONDS = 0.25
_POLL_SECONDS = 0.001
# two processes of different versions would replace each other's file for ever
_MAX_REPLACEMENTS = 3

_logger = logging.getLogger(__name__)


@final
class Ring:
    """Slots of one size in a file that other processes may use too."""

    def __init__(self, path: Path, slot_bytes: int, n_slots: int):
        """Open the file, or create it. Raises OSError if it can be neither used nor replaced."""
        self._path, self._slot_bytes, self._n_slots = path, slot_bytes, n_slots
        self._slot = struct.Struct(f"{CHECKSUM.format}{slot_bytes - CHECKSUM.size}s")  # pads with zeros
        self._header = pack_header(slot_bytes, n_slots)
        self._index = RingIndex(n_slots)
        self._changing = threading.Lock()
        self._file = self._claim()
        try:
            self._catch_up(self._head() or 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; lookups find nothing from now on."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def follow(self) -> None:
        """Index what other processes have written, if that is little and nothing is being written here."""
        # the loop must not wait for a thread that writes: it finds the answers at the next look-up
        if not self._changing.acquire(blocking=False):
            return
        try:
            head = self._head()
            if head is not None and 0 < head - self._index.head <= _MAX_FOLLOWED_SLOTS:
                self._catch_up(head)
        finally:
            self._changing.release()

    def get(self, key: bytes, now_seconds: int) -> bytes | None:
        """Return the scores under `key` unless they have expired."""
        for number in self._index.find(key):
            index = number % self._n_slots
            slot = os.pread(self._file, self._slot_bytes, SLOTS_AT + index * self._slot_bytes)
            found = scores_in(slot, key, now_seconds)
            if found is not None:
                return found
        return None

    def unknown(self, keys: Sequence[bytes], now_seconds: int) -> Sequence[bytes]:
        """Return those of `keys` that `get` finds nothing for."""
        if len(keys) < _MANY_KEYS:
            return [key for key in keys if self.get(key, now_seconds) is None]
        known = {keys[i] for i in self._index.maybe_contains(_matrix(keys)) if self.get(keys[i], now_seconds)}
        return [key for key in keys if key not in known] if known else keys

    def put(self, facts_of: Mapping[bytes, bytes], *, may_wait: bool = True) -> None:
        """Write slots for new keys; a file that was removed or damaged is created again first.

        Raises OSError, a BlockingIOError if another process does not release the file in time. One that may
        not wait also raises that where the file has to be opened, or much of others to be indexed.
        """
        slots = [self._slot.pack(crc32(facts), facts) for facts in facts_of.values()]
        with self._changing:
            if not self._append(slots, may_wait=may_wait):
                if not may_wait:
                    raise BlockingIOError
                self._reopen()
                if not self._append(slots, may_wait=True):
                    raise OSError(errno.EBUSY, "replaced again and again by another process")
            # after the write: an index entry before it would lead to the old slot
            if len(facts_of) < _MANY_KEYS:
                for key in facts_of:
                    self._index.add(key)
            else:
                self._index.add_many(_matrix(facts_of))

    def _append(self, slots: Sequence[bytes], *, may_wait: bool) -> bool:
        """Write slots and the new head under the file's lock; return False if it is no longer intact."""
        with _locked(self._file, _LOCK_SECONDS if may_wait else 0.0):
            head = self._head()
            if head is None or not self._is_linked():
                return False
            if not may_wait and head - self._index.head > _MAX_FOLLOWED_SLOTS:
                raise BlockingIOError
            self._catch_up(head)
            # more slots than the ring has would overwrite their own first ones
            data = b"".join(slots[-self._n_slots :])
            start = (head + max(0, len(slots) - self._n_slots)) % self._n_slots
            before_end = (self._n_slots - start) * self._slot_bytes
            _write(self._file, data[:before_end], SLOTS_AT + start * self._slot_bytes)
            if len(data) > before_end:
                _write(self._file, data[before_end:], SLOTS_AT)
            # last: if the process is killed before, no reader looks at the new slots
            _write(self._file, pack_head(head + len(slots)), HEAD_AT)
            return True

    def _catch_up(self, head: int) -> None:
        """Index what was written up to `head`; a smaller one than before is that of a new file."""
        if head == self._index.head:
            return
        if head < self._index.head:
            self._index = RingIndex(self._n_slots)
        self._index.skip_to(head - self._n_slots)
        for data in self._slots(self._index.head, head - self._index.head):
            slots = np.frombuffer(data, np.uint8).reshape(-1, self._slot_bytes)
            self._index.add_many(slots[:, CHECKSUM.size : CHECKSUM.size + KEY_BYTES])

    def _reopen(self) -> None:
        """Open the file at the path, which `_claim` replaces if it is damaged."""
        if not self._is_linked() or os.fstat(self._file).st_size == 0:
            _logger.warning("cache file rebuilt: %s: was removed or emptied", self._path)
        file, self._file = self._file, self._claim()
        os.close(file)
        self._index = RingIndex(self._n_slots)
        self._catch_up(self._head() or 0)

    def _claim(self) -> int:
        """Return the descriptor of an intact ring at the path; any other file there is removed."""
        for _ in range(_MAX_REPLACEMENTS):
            file = _open_regular(self._path)
            try:
                with _locked(file, _LOCK_SECONDS):
                    # another process may have removed it between opening and locking
                    if os.fstat(file).st_nlink and self._is_ours(file):
                        return file
            # also at KeyboardInterrupt: nothing else refers to the descriptor
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise OSError(errno.EBUSY, "replaced again and again by another process")

    def _is_ours(self, file: int) -> bool:
        """Write the header of an empty file; remove a file that is damaged or of other dimensions."""
        found = os.pread(file, PREFIX_BYTES, 0)
        if not found:
            _write(file, self._header.ljust(HEAD_AT, b"\0") + pack_head(0), 0)
            return True
        if unpack_head(found, self._header) is not None:
            return True
        if found.startswith(MAGIC[:-1]) and not found.startswith(self._header):
            _logger.info("cache file rebuilt: %s: of another version or size", self._path)
        else:
            _logger.warning("cache file rebuilt: %s: damaged", self._path)
        os.unlink(self._path)
        return False

    def _is_linked(self) -> bool:
        """Return whether the open file has not been removed; one that was moved away is still written."""
        return os.fstat(self._file).st_nlink > 0

    def _head(self) -> int | None:
        """Return how many slots were ever written, None if the head is damaged."""
        return unpack_head(os.pread(self._file, PREFIX_BYTES, 0), self._header)

    def _slots(self, first: int, count: int) -> Iterator[bytes]:
        """Yield slots from number `first` on, some at a time."""
        while count > 0:
            start = first % self._n_slots
            some = min(count, self._n_slots - start, _SLOTS_PER_READ)
            n_bytes = some * self._slot_bytes
            data = os.pread(self._file, n_bytes, SLOTS_AT + start * self._slot_bytes)
            # a truncated file: zeros match no checksum, so these slots are misses
            yield data.ljust(n_bytes, b"\0")
            first, count = first + some, count - some


def _open_regular(path: Path) -> int:
    """Open or create a file that only its owner may read; a link or a pipe in its place is removed."""
    # a link is refused (ELOOP); opening a pipe must not wait for its other end (ENXIO)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags, 0o600)
    except OSError as failed:
        if failed.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
    _logger.warning("cache file rebuilt: %s: not a regular file", path)
    os.unlink(path)
    # O_EXCL: another process may be faster, and its file is found at the next attempt
    return os.open(path, flags | os.O_EXCL, 0o600)


@contextmanager
def _locked(file: int, seconds: float) -> Iterator[None]:
    """Keep other processes from writing; they write for microseconds, unless one was stopped just then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _matrix(keys: Iterable[bytes]) -> Keys:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
