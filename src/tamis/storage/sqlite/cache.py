"""The prediction cache: rings of answers in files beside the database. Sees keyed digests, never a text.

New answers are written one behind the other over the oldest ones, all of a batch with one call; where
each lies is known from `index`. A row of a B-tree costs several times as much: each new digest
belongs to another page. Nothing is repaired: a slot carries its whole key and a checksum, so what a
kill or a bad disk left behind is found to be no answer, and the answer is computed again.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_LEAST_SLOT_BYTES = 128
_MOST_SECONDS = 2**32 - 1

_MANY_KEYS = 64
"""From here on numpy is faster than one key after the other."""

_SLOTS_OF_A_READ = 4_096
_MOST_ATTEMPTS = 100

_MAGIC = b"TamisCache\x00\x01"
"""The last byte is the version of what follows."""
_HEADER = struct.Struct(f"<{len(_MAGIC)}sIQ")  # bytes of a slot, number of slots
_HEAD = struct.Struct("<Q")  # slots that were ever written
_HEAD_AT = 64
_MOST_WRITTEN = 2**62 - 1  # what damage makes of it can still be counted on
_SLOTS_AT = 4096

# of a slot: the checksum of the rest; the key, seconds since 1970 when it expires, bytes of the scores
_CHECKSUM = struct.Struct("<I")
_FACTS = struct.Struct(f"<{KEY_BYTES}sII")
_SCORES_AT = _CHECKSUM.size + _FACTS.size


@final
class Cache:
    """Scores under keys of 32 bytes until they expire, of each size at most `most_rows`.

    Each size of answers has a file of its own, whose slots, powers of two, just hold it; those of one
    model nearly always have the same. Belongs to one thread; several processes may use the same files,
    and learn of a new one when they write such an answer themselves. One that `is_alone` does not ask
    at every look-up what others have written.
    """

    def __init__(self, database: Path, most_rows: int, *, is_alone: bool = False):
        self._database, self._most_rows, self._is_alone = database, most_rows, is_alone
        self._rings: dict[int, _Ring] = {}
        self._new: dict[bytes, tuple[Scores, int]] = {}

    def open(self) -> None:
        """Find the files that there are; make the one that nearly everybody needs."""
        self.close()
        self._ring(_LEAST_SLOT_BYTES)
        prefix = self._path("").name
        for path in self._database.parent.glob(f"{prefix}*"):
            if path.name.removeprefix(prefix).isdecimal():
                self._ring(int(path.name.removeprefix(prefix)))

    def close(self) -> None:
        """Let go of the files."""
        while self._rings:
            self._rings.popitem()[1].close()

    def look_up(self, keys: Sequence[bytes], now_seconds: int) -> list[Scores | None]:
        """Return the answers under `keys` that have not expired."""
        answers: list[Scores | None] = [None] * len(keys)
        for ring in self._rings.values():
            if not self._is_alone:
                ring.follow()
            for i, key in enumerate(keys):
                found = ring.get(key, now_seconds)
                if found is not None:
                    answers[i] = _decode(found)
        if self._new:
            for i, key in enumerate(keys):
                scores, expires_at = self._new.get(key, (None, 0))
                if answers[i] is None and expires_at > now_seconds:
                    answers[i] = scores
        return answers

    def remember(self, answers: Answers, now_seconds: int, cache_seconds: float) -> int:
        """Keep answers, those that have not expired as they are; return how many `write` has to write."""
        expires_at = min(now_seconds + int(cache_seconds), _MOST_SECONDS)
        for key, scores in answers.items():
            kept = self._new.get(key)
            if kept is None or kept[1] <= now_seconds:
                self._new[key] = scores, expires_at
        return len(self._new)

    def write(self, now_seconds: int) -> None:
        """Write what has been remembered; where that fails it is still known, and may be tried again."""
        new = self._new
        for ring in self._rings.values():
            new = {key: new[key] for key in ring.unknown([*new], now_seconds)}
        by_size: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        for key, (scores, expires_at) in new.items():
            encoded = _encode(scores)
            facts = _FACTS.pack(key, expires_at, len(encoded)) + encoded
            by_size[_slot_bytes(len(facts))][key] = facts
        for slot_bytes, facts_of in by_size.items():
            self._ring(slot_bytes).put(facts_of)
        self._new = {}

    def _ring(self, slot_bytes: int) -> _Ring:
        ring = self._rings.get(slot_bytes)
        if ring is None:
            ring = self._rings[slot_bytes] = _Ring(self._path(slot_bytes), slot_bytes, self._most_rows)
        return ring

    def _path(self, slot_bytes: int | str) -> Path:
        return self._database.with_name(f"{self._database.name}-cache{slot_bytes}")


def _slot_bytes(facts_bytes: int) -> int:
    """Return the power of two that holds them and their checksum."""
    needed = _CHECKSUM.size + facts_bytes
    return _LEAST_SLOT_BYTES if needed <= _LEAST_SLOT_BYTES else 1 << (needed - 1).bit_length()


@final
class _Ring:
    """Slots of one size in a file, the newest written over the oldest."""

    def __init__(self, path: Path, slot_bytes: int, n_slots: int):
        self._slot_bytes, self._n_slots = slot_bytes, n_slots
        self._slot = struct.Struct(f"{_CHECKSUM.format}{slot_bytes - _CHECKSUM.size}s")  # pads with zeros
        self._index = Index(n_slots)
        self._file = open_as_owner(path)
        try:
            self._claim(path, _HEADER.pack(_MAGIC, slot_bytes, n_slots))
            self.follow()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        os.close(self._file)

    def follow(self) -> None:
        """Learn what other processes have written."""
        head = self._head()
        if head == self._index.head:
            return
        if head < self._index.head:  # somebody emptied the file
            self._index = Index(self._n_slots)
        self._index.skip_to(head - self._n_slots)
        for data in self._slots(self._index.head, head - self._index.head):
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

    def put(self, facts_of: Mapping[bytes, bytes]) -> None:
        """Write slots for new keys; they are given up where another process does not end its writing."""
        if not self._lock():
            return
        try:
            self.follow()
            self._append([self._slot.pack(crc32(facts), facts) for facts in facts_of.values()])
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        if len(facts_of) < _MANY_KEYS:
            for key in facts_of:
                self._index.add(key)
        else:
            self._index.add_many(_matrix(facts_of))

    def _append(self, slots: Sequence[bytes]) -> None:
        data = b"".join(slots[-self._n_slots :])
        head = self._index.head
        place = (head + max(0, len(slots) - self._n_slots)) % self._n_slots
        before_the_end = (self._n_slots - place) * self._slot_bytes
        os.pwrite(self._file, data[:before_the_end], _SLOTS_AT + place * self._slot_bytes)
        if len(data) > before_the_end:
            os.pwrite(self._file, data[before_the_end:], _SLOTS_AT)
        os.pwrite(self._file, _HEAD.pack(head + len(slots)), _HEAD_AT)

    def _lock(self) -> bool:
        """Keep the others from writing; they do for microseconds, unless one was stopped just then."""
        for _ in range(_MOST_ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
            else:
                return True
        return False

    def _claim(self, path: Path, header: bytes) -> None:
        """Empty a file whose slots lie otherwise; leave alone what is not ours."""
        found = os.pread(self._file, len(header), 0)
        if found == header:
            return
        if found and not found.startswith(_MAGIC[:-1]):
            raise StoreError(
                f"{path}: not a cache of Tamis's; move it away and a new one will be made", fault="corrupt"
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, header, 0)

    def _head(self) -> int:
        """Return how many slots were ever written."""
        found = os.pread(self._file, _HEAD.size, _HEAD_AT)
        return int.from_bytes(found, "little") & _MOST_WRITTEN

    def _slots(self, first: int, count: int) -> Iterator[bytes]:
        """Yield slots from number `first` on, some at a time."""
        while count > 0:
            place = first % self._n_slots
            some = min(count, self._n_slots - place, _SLOTS_OF_A_READ)
            n_bytes = some * self._slot_bytes
            data = os.pread(self._file, n_bytes, _SLOTS_AT + place * self._slot_bytes)
            yield data.ljust(n_bytes, b"\0")
            first, count = first + some, count - some


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
