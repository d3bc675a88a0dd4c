"""How far each caller is ahead: a small file of fixed size, mapped into every worker of one machine.

Knows slots, locks and nanoseconds; knows no caller but by a hash, and nothing of HTTP.

The file is a hash table: a caller's keyed 64-bit hash chooses a row of sixteen slots, a slot holds
a hash and a time. A row is locked by `fcntl` while one process reads and changes it; the kernel
takes the lock away from a process that dies. Sixteen callers of one row can be counted at once; a
seventeenth takes the place of the one whose time is over first, usually long ago. Times are on the
monotonic clock, which all processes of one boot share and nobody can set.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from tamis.clock import Clock
from tamis.errors import SettingsError

Place = tuple[int, int]
"""Where a caller's slot can be: the offset of a row, and the caller's hash."""

_SLOTS_PER_ROW: Final = 16
_ROWS = 8_192
_ROW = struct.Struct(f"={_SLOTS_PER_ROW}Q{_SLOTS_PER_ROW}q")
_HASH, _TIME = struct.Struct("=Q"), struct.Struct("=q")
_TIMES_OFFSET = _HASH.size * _SLOTS_PER_ROW

_MAGIC = b"tamis rates 1\n\0\0"
_HEADER = struct.Struct("=16s36sI32s")
"""Magic, the machine's boot, the number of rows, and the secret of the hash."""
_HEADER_BYTES = 4_096
_REMEMBERED_PLACES = 4_096
_NS_PER_SECOND = 1_000_000_000


class RateTable:
    """The shared times in the file at `path`, which is made if it is missing or from before a reboot."""

    def __init__(self, path: Path, clock: Clock, *, rows: int = _ROWS):
        self._clock, self._rows = clock, rows
        try:
            self._file = _opened(path)
            self._secret = self._prepare(path)
            self._map = mmap.mmap(self._file, self._size)
        except OSError as failed:
            raise SettingsError(
                f"{path}: callers cannot be counted here: {failed.strerror or failed} (TAMIS_RATE_FILE)"
            ) from None
        self.place_of = lru_cache(_REMEMBERED_PLACES)(self._place_of)

    def close(self) -> None:
        """Let go of the file; what is counted stays in it."""
        self._map.close()
        os.close(self._file)

    def take(self, place: Place, cost_ns: int, most_ahead_ns: int) -> tuple[int, int]:
        """Do `gcra` for the caller at `place`, no other process in between, and remember the outcome."""
        row, caller = place
        fcntl.lockf(self._file, fcntl.LOCK_EX, _ROW.size, row)
        try:
            now = round(self._clock.monotonic() * _NS_PER_SECOND)  # under the lock: times keep their order
            slots = _ROW.unpack_from(self._map, row)
            is_known = caller in slots  # a hash has its top bit set and equals no time
            slot = slots.index(caller) if is_known else _first_over(slots)
            ahead = slots[_SLOTS_PER_ROW + slot] - now if is_known else 0
            ahead, wait = gcra(ahead, cost_ns, most_ahead_ns)
            if is_known or not wait:  # a refusal may have forgotten what was counted under other settings
                if not is_known:  # the hash first: killed here, the newcomer gets a time that is over
                    _HASH.pack_into(self._map, row + _HASH.size * slot, caller)
                _TIME.pack_into(self._map, row + _TIMES_OFFSET + _TIME.size * slot, now + ahead)
            return ahead, wait
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW.size, row)

    @property
    def _size(self) -> int:
        return _HEADER_BYTES + self._rows * _ROW.size

    def _place_of(self, name: str) -> Place:
        digest = blake2b(name.encode(), key=self._secret, digest_size=8, person=b"tamis-rates")
        number = int.from_bytes(digest.digest(), "big")
        return _HEADER_BYTES + number % self._rows * _ROW.size, number | 1 << 63

    def _prepare(self, path: Path) -> bytes:
        """Return the secret of a table that holds now, beginning anew after a reboot.

        The file never shrinks and is written in place: another process may have it mapped. It is
        written whole, because changing a hole in a map on a full disk would kill the process.
        """
        fcntl.lockf(self._file, fcntl.LOCK_EX, _HEADER_BYTES, 0)
        try:
            header = os.pread(self._file, _HEADER.size, 0)
            if header.strip(b"\0") and header[: len(_MAGIC)] != _MAGIC:
                raise SettingsError(f"{path} is no file of Tamis's counts: name another (TAMIS_RATE_FILE)")
            expected = _HEADER.pack(_MAGIC, _boot(), self._rows, bytes(32))[:-32]
            if len(header) < _HEADER.size or header[:-32] != expected:
                if os.pwrite(self._file, bytes(self._size), 0) < self._size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                header = expected + os.urandom(32)
                os.pwrite(self._file, header, 0)
            return header[-32:]
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _HEADER_BYTES, 0)


def gcra(ahead: int, cost: int, most_ahead: int) -> tuple[int, int]:
    """Return how far a caller is ahead of the even rate afterwards, and how long to wait: 0 is let in.

    The generic cell rate algorithm, all in one unit of time. `ahead` may be negative, after a pause,
    which earns nothing beyond the burst; what is over `most_ahead` was counted under other settings
    and is forgotten.
    """
    ahead = min(max(ahead, 0), most_ahead)
    wait = ahead + cost - most_ahead
    return (ahead, wait) if wait > 0 else (ahead + cost, 0)


def _first_over(slots: tuple[int, ...]) -> int:
    """Return the slot whose time is over first; that of an empty one is 0."""
    times = slots[_SLOTS_PER_ROW:]
    return times.index(min(times))


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _boot() -> bytes:
    """Return which boot of this machine it is; where that cannot be known, times still end in a burst."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
