"""The prediction cache: rings of answers in files beside the database. Sees keyed digests, never a text.

New answers are written one behind the other over the oldest ones, all of a batch with one call; where
each lies is known from `index`. A row of a B-tree costs several times as much: each new digest
belongs to another page. A slot carries its whole key and a checksum, so a damaged one is a cache miss;
a file whose header or head is damaged is emptied by the next write.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import final
from zlib import crc32

import msgspec
import numpy as np

from tamis.errors import StoreError
from tamis.storage.base import Answers, Scores
from tamis.storage.keys import KEY_BYTES
from tamis.storage.sqlite.connection import open_as_owner
from tamis.storage.sqlite.index import Index, Keys

# JSON, because its shortest digits give back the very same double
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, float]).decode

_MIN_SLOT_BYTES = 128
_MAX_SLOT_BYTES = 1 << 24
_SLOT_SIZES = [1 << bits for bits in range(7, 25)]
_MAX_SECONDS = 2**32 - 1
_MAX_PENDING = 4_096
"""Answers that may wait for the disk; more are not cached."""

_MANY_KEYS = 64
"""From here on numpy is faster than one key after the other."""

_SLOTS_OF_A_READ = 4_096
_MAX_ATTEMPTS = 100
_RETRY_SECONDS = 10

_MAGIC = b"TamisCache\x00\x02"
"""The last byte is the version of what follows."""
_HEADER = struct.Struct(f"<{len(_MAGIC)}sIQ")  # bytes of a slot, number of slots
_HEAD = struct.Struct("<Q")  # slots that were ever written; its checksum follows
_CHECKSUM = struct.Struct("<I")
_HEAD_AT = 64
_HEAD_END = _HEAD_AT + _HEAD.size + _CHECKSUM.size
_SLOTS_AT = 4096

# of a slot: the checksum of the rest; the key, seconds since 1970 when it expires, bytes of the scores
_FACTS = struct.Struct(f"<{KEY_BYTES}sII")
_SCORES_AT = _CHECKSUM.size + _FACTS.size

_Pending = dict[bytes, tuple[Scores, int]]
"""Scores by key, and when they expire."""

_logger = logging.getLogger(__name__)


@final
class Cache:
    """Scores under keys of 32 bytes until they expire, of each size at most `max_rows`.

    Each size of answers has a file of its own, whose slots, powers of two, just hold it; those of one
    model nearly always have the same. `look_up`, `remember` and `stage` belong to the event loop, `open` and
    `write` to one thread; several processes may use the same files. No fault of a file is raised: a
    damaged file is rebuilt, and one that cannot be used is left out for ten seconds.
    """

    def __init__(self, database: Path, max_rows: int, *, is_alone: bool = False):
        self._database, self._max_rows, self._is_alone = database, max_rows, is_alone
        self._rings: dict[int, _Ring] = {}
        self._retry_at: dict[int, int] = {}
        self._new: dict[bytes, tuple[Scores, int]] = {}
        self._being_written: dict[bytes, tuple[Scores, int]] = {}
        self._mutex = threading.Lock()  # of the rings and their indexes; never held while writing a file
        self.dropped = 0
        """Answers that were not cached because too many were waiting or the disk failed."""

    def open(self) -> None:
        """Open the files that exist, and create the one that most models use."""
        self.close()
        self._ring(_MIN_SLOT_BYTES, 0)
        prefix = self._path("").name
        try:
            names = [path.name.removeprefix(prefix) for path in self._database.parent.glob(f"{prefix}*")]
        except OSError as failed:
            _logger.warning("cache files not listed: %s", failed)
            return
        for slot_bytes in _SLOT_SIZES:
            if str(slot_bytes) in names:
                self._ring(slot_bytes, 0)

    def close(self) -> None:
        """Close the files."""
        self._retry_at.clear()
        while self._rings:
            self._rings.popitem()[1].close()

    def look_up(self, keys: Sequence[bytes], now_seconds: int) -> list[Scores | None]:
        """Return the answers under `keys` that have not expired."""
        answers: list[Scores | None] = [None] * len(keys)
        with self._mutex:
            for ring in self._rings.values():
                if ring.failure is not None:
                    continue
                try:
                    self._look_up_in(ring, keys, now_seconds, answers)
                except OSError as failed:
                    ring.fail(failed)
        for pending in (self._new, self._being_written):
            if pending:
                for i, key in enumerate(keys):
                    scores, expires_at = pending.get(key, (None, 0))
                    if answers[i] is None and expires_at > now_seconds:
                        answers[i] = scores
        return answers

    def _look_up_in(
        self, ring: _Ring, keys: Sequence[bytes], now_seconds: int, answers: list[Scores | None]
    ) -> None:
        if not self._is_alone:
            ring.follow(_SLOTS_OF_A_READ)
        for i, key in enumerate(keys):
            found = ring.get(key, now_seconds)
            if found is not None:
                answers[i] = _decode(found)

    def remember(self, answers: Answers, now_seconds: int, cache_seconds: float) -> int:
        """Add answers, except those that are pending and live; return how many `write` has to write."""
        expires_at = min(now_seconds + int(cache_seconds), _MAX_SECONDS)
        for key, scores in answers.items():
            kept = self._new.get(key)
            if kept is None and len(self._new) >= _MAX_PENDING:
                self.dropped += 1
            elif kept is None or kept[1] <= now_seconds:
                self._new[key] = scores, expires_at
        return len(self._new)

    def stage(self) -> bool:
        """Set aside, on the event loop, what the next `write` writes; return whether there is anything."""
        self._being_written, self._new = self._new, {}
        return bool(self._being_written)

    def write(self, now_seconds: int) -> None:
        """Write what has been staged; if the disk fails, forget it."""
        by_size: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        for key, (scores, expires_at) in self._unknown(self._being_written, now_seconds).items():
            encoded = _encode(scores)
            facts = _FACTS.pack(key, expires_at, len(encoded)) + encoded
            by_size[_slot_bytes(len(facts))][key] = facts
        for slot_bytes, facts_of in by_size.items():
            self._put(slot_bytes, list(facts_of.values()), now_seconds)
        self._being_written = {}

    def _unknown(self, new: _Pending, now_seconds: int) -> _Pending:
        with self._mutex:
            for ring in self._rings.values():
                try:
                    ring.follow()
                    new = {key: new[key] for key in ring.unknown([*new], now_seconds)}
                except OSError as failed:
                    ring.fail(failed)
        return new

    def _put(self, slot_bytes: int, facts: Sequence[bytes], now_seconds: int) -> None:
        ring = self._ring(slot_bytes, now_seconds) if slot_bytes <= _MAX_SLOT_BYTES else None
        if ring is None:
            self.dropped += len(facts)
            return
        try:
            ring.put(facts)
            with self._mutex:
                ring.follow()
        except OSError as failed:
            ring.fail(failed)
            self.dropped += len(facts)

    def _ring(self, slot_bytes: int, now_seconds: int) -> _Ring | None:
        """Return the open file of a size, opened or reopened now; None while it cannot be used."""
        ring = self._rings.get(slot_bytes)
        if ring is not None and not ring.is_unusable():
            return ring
        if ring is not None and ring.failure is not None:
            self._note_failure(slot_bytes, ring.failure, now_seconds)
        if ring is not None:
            with self._mutex:
                del self._rings[slot_bytes]
                ring.close()
        if self._retry_at.get(slot_bytes, 0) > now_seconds:
            return None
        try:
            ring = _Ring(self._path(slot_bytes), slot_bytes, self._max_rows)
        except (OSError, StoreError) as failed:
            self._note_failure(slot_bytes, failed, now_seconds)
            return None
        with self._mutex:
            self._rings[slot_bytes] = ring
        return ring

    def _note_failure(self, slot_bytes: int, failure: Exception, now_seconds: int) -> None:
        if slot_bytes not in self._retry_at:
            _logger.warning("cache file not used: %s: %s", self._path(slot_bytes), failure)
        self._retry_at[slot_bytes] = now_seconds + _RETRY_SECONDS

    def _path(self, slot_bytes: int | str) -> Path:
        return self._database.with_name(f"{self._database.name}-cache{slot_bytes}")


def _slot_bytes(facts_bytes: int) -> int:
    """Return the power of two that holds them and their checksum."""
    needed = _CHECKSUM.size + facts_bytes
    return _MIN_SLOT_BYTES if needed <= _MIN_SLOT_BYTES else 1 << (needed - 1).bit_length()


@final
class _Ring:
    """Slots of one size in a file, the newest written over the oldest."""

    def __init__(self, path: Path, slot_bytes: int, n_slots: int):
        self._path, self._slot_bytes, self._n_slots = path, slot_bytes, n_slots
        self._slot = struct.Struct(f"{_CHECKSUM.format}{slot_bytes - _CHECKSUM.size}s")  # pads with zeros
        self._header = _HEADER.pack(_MAGIC, slot_bytes, n_slots)
        self._index = Index(n_slots)
        self.failure: OSError | None = None
        self._file = open_as_owner(path)
        try:
            if self._head() is None and self._lock():
                self._unlock_after(self._rebuild)
            self.follow()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        os.close(self._file)

    def fail(self, failure: OSError) -> None:
        """Note a fault: the file is closed by the thread that writes, and opened again later."""
        self.failure = failure

    def is_unusable(self) -> bool:
        """Return whether the file failed, or was removed."""
        return self.failure is not None or os.fstat(self._file).st_nlink == 0

    def follow(self, max_slots: int = sys.maxsize) -> None:
        """Index what has been written since the last call, `max_slots` at most."""
        head = self._head()
        if head is None or head == self._index.head:
            return  # without a valid head the next `put` rebuilds the file
        if head < self._index.head:  # rebuilt
            self._index = Index(self._n_slots)
        self._index.skip_to(head - self._n_slots)
        for data in self._slots(self._index.head, min(head - self._index.head, max_slots)):
            self._add(data)

    def _add(self, data: bytes) -> None:
        if len(data) < _MANY_KEYS * self._slot_bytes:
            for at in range(_CHECKSUM.size, len(data), self._slot_bytes):
                self._index.add(data[at : at + KEY_BYTES])
            return
        slots = np.frombuffer(data, np.uint8).reshape(-1, self._slot_bytes)
        self._index.add_many(slots[:, _CHECKSUM.size : _CHECKSUM.size + KEY_BYTES])

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

    def put(self, facts: Sequence[bytes]) -> None:
        """Write slots; they are dropped if another process keeps the lock."""
        if self._lock():
            slots = [self._slot.pack(crc32(each), each) for each in facts]
            self._unlock_after(lambda: self._append(slots))

    def _append(self, slots: Sequence[bytes]) -> None:
        head = self._head()
        if head is None:
            head = self._rebuild()
        data = b"".join(slots[-self._n_slots :])
        place = (head + max(0, len(slots) - self._n_slots)) % self._n_slots
        before_the_end = (self._n_slots - place) * self._slot_bytes
        os.pwrite(self._file, data[:before_the_end], _SLOTS_AT + place * self._slot_bytes)
        if len(data) > before_the_end:
            os.pwrite(self._file, data[before_the_end:], _SLOTS_AT)
        os.pwrite(self._file, _with_checksum(head + len(slots)), _HEAD_AT)

    def _lock(self) -> bool:
        """Keep other processes from writing; they do for microseconds, unless one was stopped just then."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
            else:
                return True
        return False

    def _unlock_after(self, work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _rebuild(self) -> int:
        """Empty a file that is new, damaged or of another layout, unless another process just has."""
        head = self._head()
        if head is not None:
            return head
        if os.fstat(self._file).st_size > 0:
            _logger.warning("cache file rebuilt: %s: damaged or of another layout", self._path)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, self._header.ljust(_HEAD_AT, b"\0") + _with_checksum(0), 0)
        return 0

    def _head(self) -> int | None:
        """Return how many slots were ever written; None if the start of the file is damaged."""
        found = os.pread(self._file, _HEAD_END, 0)
        if not found.startswith(self._header) or len(found) < _HEAD_END:
            return None
        (head,) = _HEAD.unpack_from(found, _HEAD_AT)
        return int(head) if found[_HEAD_AT:] == _with_checksum(head) else None

    def _slots(self, first: int, count: int) -> Iterator[bytes]:
        """Yield slots from number `first` on, some at a time."""
        while count > 0:
            place = first % self._n_slots
            some = min(count, self._n_slots - place, _SLOTS_OF_A_READ)
            n_bytes = some * self._slot_bytes
            data = os.pread(self._file, n_bytes, _SLOTS_AT + place * self._slot_bytes)
            yield data.ljust(n_bytes, b"\0")
            first, count = first + some, count - some


def _with_checksum(head: int) -> bytes:
    packed = _HEAD.pack(head)
    return packed + _CHECKSUM.pack(crc32(packed))


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
