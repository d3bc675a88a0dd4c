"""One file of the prediction cache: slots of one size, the newest written over the oldest.

    0 magic, slot size, number of slots · 64 head: slots ever written, checksum · 4096 slot 0 · slot 1 · …

A slot is its checksum, the key, the second it expires and the scores. The file can be lost or damaged
at any time: a slot that does not match its checksum is no answer, and a file whose header or head is
damaged is removed and made anew. It is removed by name and never overwritten, so whatever else a link
of that name leads to stays as it is.

One thread at a time writes (`put`); another may look keys up at the same moment. What it finds in an
index that is just being changed is at worst another key's slot, which is no answer.
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

from tamis.storage.keys import KEY_BYTES
from tamis.storage.sqlite.index import Index, Keys

MIN_SLOT_BYTES = 128
MAX_SLOT_BYTES = 2**20
"""Scores that need more are computed each time: a hundred thousand labels."""

_MANY_KEYS = 64
"""From here on numpy is faster than one key after the other."""

_SLOTS_PER_READ = 4_096
_MAX_FOLLOWED_SLOTS = 4_096
"""Slots of other processes that a look-up reads, a millisecond's work; `put` reads any number."""

_LOCK_SECONDS = 0.25
_POLL_SECONDS = 0.001
_MAX_REPLACEMENTS = 3

_MAGIC = b"TamisCache\x00\x02"
"""The last byte is the version of what follows."""
_HEADER = struct.Struct(f"<{len(_MAGIC)}sIQ")  # bytes of a slot, number of slots
_HEAD = struct.Struct("<QI")  # slots that were ever written, checksum
_HEAD_AT = 64
_SLOTS_AT = 4096

# of a slot: the checksum of the rest; the key, seconds since 1970 when it expires, bytes of the scores
_CHECKSUM = struct.Struct("<I")
_FACTS = struct.Struct(f"<{KEY_BYTES}sII")
_SCORES_AT = _CHECKSUM.size + _FACTS.size

_logger = logging.getLogger(__name__)


def pack_facts(key: bytes, expires_at: int, scores: bytes) -> bytes:
    """Return what a slot holds besides its checksum."""
    return _FACTS.pack(key, expires_at, len(scores)) + scores


def slot_bytes_for(facts: bytes) -> int:
    """Return the size of a slot, a power of two, that holds `facts` and their checksum."""
    needed = _CHECKSUM.size + len(facts)
    return max(MIN_SLOT_BYTES, 1 << (needed - 1).bit_length())


def is_slot_size(number: int) -> bool:
    """Return whether there are rings of this slot size."""
    return MIN_SLOT_BYTES <= number <= MAX_SLOT_BYTES and number & (number - 1) == 0


@final
class Ring:
    """Slots of one size in a file that other processes may use too."""

    def __init__(self, path: Path, slot_bytes: int, n_slots: int):
        """Open the file, or make it. Raises OSError if it can be neither used nor replaced."""
        self._path, self._slot_bytes, self._n_slots = path, slot_bytes, n_slots
        self._slot = struct.Struct(f"{_CHECKSUM.format}{slot_bytes - _CHECKSUM.size}s")  # pads with zeros
        self._header = _HEADER.pack(_MAGIC, slot_bytes, n_slots)
        self._index = Index(n_slots)
        self._changing = threading.Lock()
        self._file = self._claim()
        try:
            self._catch_up(self._head() or 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; look-ups find nothing from now on."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def follow(self) -> None:
        """Learn what other processes have written, if that is little and nothing is being written here."""
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
            place = number % self._n_slots
            slot = os.pread(self._file, self._slot_bytes, _SLOTS_AT + place * self._slot_bytes)
            found = _scores(slot, key, now_seconds)
            if found is not None:
                return found
        return None

    def unknown(self, keys: Sequence[bytes], now_seconds: int) -> Sequence[bytes]:
        """Return those of `keys` that `get` finds nothing for."""
        if len(keys) < _MANY_KEYS:
            return [key for key in keys if self.get(key, now_seconds) is None]
        known = {keys[i] for i in self._index.suspects(_matrix(keys)) if self.get(keys[i], now_seconds)}
        return [key for key in keys if key not in known] if known else keys

    def put(self, facts_of: Mapping[bytes, bytes]) -> None:
        """Write slots for new keys; a file that was removed or damaged is made anew first.

        Raises OSError, a BlockingIOError if another process does not release the file.
        """
        slots = [self._slot.pack(crc32(facts), facts) for facts in facts_of.values()]
        with self._changing:
            if not self._append(slots):
                self._reopen()
                if not self._append(slots):
                    raise OSError(errno.EBUSY, "replaced again and again by another process")
            if len(facts_of) < _MANY_KEYS:
                for key in facts_of:
                    self._index.add(key)
            else:
                self._index.add_many(_matrix(facts_of))

    def _append(self, slots: Sequence[bytes]) -> bool:
        """Write slots and the new head under the file's lock; return False if it is no longer intact."""
        with _locked(self._file):
            head = self._head()
            if head is None or not self._is_linked():
                return False
            self._catch_up(head)
            data = b"".join(slots[-self._n_slots :])
            place = (head + max(0, len(slots) - self._n_slots)) % self._n_slots
            before_end = (self._n_slots - place) * self._slot_bytes
            _write(self._file, data[:before_end], _SLOTS_AT + place * self._slot_bytes)
            if len(data) > before_end:
                _write(self._file, data[before_end:], _SLOTS_AT)
            _write(self._file, _packed_head(head + len(slots)), _HEAD_AT)
            return True

    def _catch_up(self, head: int) -> None:
        """Index what was written up to `head`; a smaller one than before means a new beginning."""
        if head == self._index.head:
            return
        if head < self._index.head:
            self._index = Index(self._n_slots)
        self._index.skip_to(head - self._n_slots)
        for data in self._slots(self._index.head, head - self._index.head):
            slots = np.frombuffer(data, np.uint8).reshape(-1, self._slot_bytes)
            self._index.add_many(slots[:, _CHECKSUM.size : _CHECKSUM.size + KEY_BYTES])

    def _reopen(self) -> None:
        """Use what is at the path now, which `_claim` replaces if it is damaged."""
        if not self._is_linked() or os.fstat(self._file).st_size == 0:
            _logger.warning("cache file rebuilt: %s: was removed or emptied", self._path)
        file, self._file = self._file, self._claim()
        os.close(file)
        self._index = Index(self._n_slots)
        self._catch_up(self._head() or 0)

    def _claim(self) -> int:
        """Return the descriptor of an intact ring at the path; what is none is removed."""
        for _ in range(_MAX_REPLACEMENTS):
            file = _open_regular(self._path)
            try:
                with _locked(file):
                    if os.fstat(file).st_nlink and self._is_ours(file):
                        return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise OSError(errno.EBUSY, "replaced again and again by another process")

    def _is_ours(self, file: int) -> bool:
        """Write the header of an empty file; remove a file that is damaged or of other dimensions."""
        found = os.pread(file, _HEAD_AT + _HEAD.size, 0)
        if not found:
            _write(file, self._header.ljust(_HEAD_AT, b"\0") + _packed_head(0), 0)
            return True
        if _unpacked_head(found, self._header) is not None:
            return True
        if found.startswith(_MAGIC[:-1]) and not found.startswith(self._header):
            _logger.info("cache file rebuilt: %s: of another version or size", self._path)
        else:
            _logger.warning("cache file rebuilt: %s: damaged", self._path)
        os.unlink(self._path)
        return False

    def _is_linked(self) -> bool:
        """Return whether the open file has not been removed; one that was moved away is still written."""
        return os.fstat(self._file).st_nlink > 0

    def _head(self) -> int | None:
        """Return how many slots were ever written, None if the file does not tell."""
        return _unpacked_head(os.pread(self._file, _HEAD_AT + _HEAD.size, 0), self._header)

    def _slots(self, first: int, count: int) -> Iterator[bytes]:
        """Yield slots from number `first` on, some at a time."""
        while count > 0:
            place = first % self._n_slots
            some = min(count, self._n_slots - place, _SLOTS_PER_READ)
            n_bytes = some * self._slot_bytes
            data = os.pread(self._file, n_bytes, _SLOTS_AT + place * self._slot_bytes)
            yield data.ljust(n_bytes, b"\0")
            first, count = first + some, count - some


def _open_regular(path: Path) -> int:
    """Open or make a file that only its owner may read; a link or a pipe in its place is removed."""
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
    return os.open(path, flags | os.O_EXCL, 0o600)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Keep other processes from writing; they write for microseconds, unless one was stopped just then."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _packed_head(head: int) -> bytes:
    return _HEAD.pack(head, _head_checksum(head))


def _unpacked_head(found: bytes, header: bytes) -> int | None:
    """Return the head in the first bytes of a file, None if that is none of a ring with this `header`."""
    if len(found) < _HEAD_AT + _HEAD.size or not found.startswith(header):
        return None
    head, checksum = _HEAD.unpack_from(found, _HEAD_AT)
    return int(head) if checksum == _head_checksum(head) else None


def _head_checksum(head: int) -> int:
    return crc32(head.to_bytes(8, "little"))


def _matrix(keys: Iterable[bytes]) -> Keys:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)


def _scores(slot: bytes, key: bytes, now_seconds: int) -> bytes | None:
    """Return the scores in a slot of `key`; None where it is another's, expired or damaged."""
    if len(slot) < _SCORES_AT:
        return None
    (checksum,) = _CHECKSUM.unpack_from(slot)
    found, expires_at, length = _FACTS.unpack_from(slot, _CHECKSUM.size)
    end = _SCORES_AT + length
    is_live = found == key and expires_at > now_seconds and crc32(slot[_CHECKSUM.size : end]) == checksum
    return slot[_SCORES_AT:end] if is_live else None
