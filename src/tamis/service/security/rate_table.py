"""How far each caller is ahead: a small file of fixed size, shared by every worker of one machine.

Callers are stored as hashes only.

The file is a hash table: a caller's keyed 64-bit hash chooses a row of sixteen slots, a slot holds
a hash and a time. A row is locked by `fcntl` while one process reads and changes it; the kernel
takes the lock away from a process that dies. The file is read and written by `pread` and `pwrite`
and never mapped: a file that another program cuts short would end a process that has it mapped.

Nothing here blocks the event loop. A lock that another process keeps for longer than
`_LOCK_SECONDS` is not waited for again until `_RETRY_SECONDS` have passed: meanwhile rows are
changed without it, so that two workers that count one caller in the same microsecond may count one
request in place of two. A row that cannot be read is empty; one that cannot be written is kept in
memory until it can. Sixteen callers of one row can be counted at once; a
seventeenth takes the place of the one whose time is over first, usually long ago. Times are on the
monotonic clock, which all processes of one boot share and which cannot be set.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
import time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from tamis.clock import Clock
from tamis.errors import SettingsError

Place = tuple[int, int]
"""Where a caller's slot can be: the offset of a row, and the caller's hash."""

_SLOTS_PER_ROW: Final = 16
_ROWS = 8_192
_ROW = struct.Struct(f"={_SLOTS_PER_ROW}Q{_SLOTS_PER_ROW}q")

_MAGIC = b"tamis rates 1\n\0\0"
_HEADER = struct.Struct("=16s36sI32s")
"""Magic, the machine's boot, the number of rows, and the secret of the hash."""
# rows start on a page of their own
_HEADER_BYTES = 4_096
_REMEMBERED_PLACES = 4_096
_NS_PER_SECOND = 1_000_000_000

_LOCK_SECONDS = 0.1
"""A worker holds a row for microseconds; a busy machine may suspend it for some milliseconds."""
# else every request would wait for a lock that another program holds
_RETRY_SECONDS = 5.0
_POLL_SECONDS = 0.0002
# one system call per second, not per request
_HEADER_CHECK_SECONDS = 1.0
_WARN_SECONDS = 60.0
_SECRET_BYTES = 32

_log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """The outcome of `RateTable.take`, in nanoseconds."""

    ahead: int
    """How far the caller is ahead of the even rate afterwards."""
    wait: int
    """Seconds until the same request would be accepted; 0 if it was."""
    over_at: int
    """The monotonic time at which the caller would no longer be ahead."""


class RateTable:
    """The shared times in the file at `path`, which is made if it is missing or from before a reboot."""

    def __init__(self, path: Path, clock: Clock, *, rows: int = _ROWS):
        self._path, self._clock, self._rows = path, clock, rows
        self._unlocked_until = self._quiet_until = float("-inf")
        try:
            self._file = _opened(path)
            self._header = self._prepare(path)
        except OSError as failed:
            raise SettingsError(
                f"{path}: callers cannot be counted here: {failed.strerror or failed} (TAMIS_RATE_FILE)"
            ) from None
        self.place_of = lru_cache(_REMEMBERED_PLACES)(self._place_of)
        self._unwritten: dict[int, bytes] = {}  # at most the table's rows
        self._next_check = clock.monotonic() + _HEADER_CHECK_SECONDS

    def close(self) -> None:
        """Let go of the file; what is counted stays in it."""
        os.close(self._file)

    def take(self, place: Place, cost_ns: int, most_ahead_ns: int) -> Taken:
        """Do `gcra` for the caller at `place`, no other process in between, and remember the outcome."""
        row, caller = place
        is_locked = self._lock(_ROW.size, row)
        try:
            now = round(self._clock.monotonic() * _NS_PER_SECOND)  # under the lock: times keep their order
            slots = self._read(row)
            is_known = caller in slots  # a hash has its top bit set and equals no time
            slot = slots.index(caller) if is_known else _first_over(slots)
            ahead = slots[_SLOTS_PER_ROW + slot] - now if is_known else 0
            ahead, wait = gcra(ahead, cost_ns, most_ahead_ns)
            if is_known or not wait:  # a refusal may have forgotten what was counted under other settings
                slots[slot], slots[_SLOTS_PER_ROW + slot] = caller, now + ahead
                self._write(row, _ROW.pack(*slots))
        finally:
            if is_locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW.size, row)
        if now >= self._next_check * _NS_PER_SECOND:
            self._check_header()
        return Taken(ahead, wait, now + ahead)

    def give_back(self, place: Place, cost_ns: int, *, over_at_ns: int) -> None:
        """Undo a `take` of `cost_ns` after which the caller was ahead until `over_at_ns`.

        What would have passed by itself meanwhile is not given back: it was taken from nothing.
        """
        row, caller = place
        is_locked = self._lock(_ROW.size, row)
        try:
            now = round(self._clock.monotonic() * _NS_PER_SECOND)
            passed = max(0, now - (over_at_ns - cost_ns))
            slots = self._read(row)
            if caller in slots and passed < cost_ns:
                slots[_SLOTS_PER_ROW + slots.index(caller)] -= cost_ns - passed
                self._write(row, _ROW.pack(*slots))
        finally:
            if is_locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW.size, row)

    def _lock(self, length: int, offset: int) -> bool:
        """Lock a part of the file; return False if another process keeps it, without waiting for long."""
        if self._lock_now(length, offset):
            return True
        began = time.monotonic()  # the real clock: a test's clock does not advance by itself
        if began < self._unlocked_until:
            return False
        while time.monotonic() - began < _LOCK_SECONDS:
            time.sleep(_POLL_SECONDS)
            if self._lock_now(length, offset):
                return True
        self._unlocked_until = time.monotonic() + _RETRY_SECONDS
        self._warn("another process keeps the rate file locked; counting without its lock")
        return False

    def _lock_now(self, length: int, offset: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, offset)
        except OSError:
            return False
        return True

    def _read(self, row: int) -> list[int]:
        """Return a row's hashes and times; a row that the file has lost is empty."""
        found = self._unwritten.get(row)
        if found is None:
            try:
                found = os.pread(self._file, _ROW.size, row)
            except OSError as failed:
                self._warn(f"the rate file cannot be read ({failed.strerror}); counting in memory")
                found = b""
        return [*_ROW.unpack(found.ljust(_ROW.size, b"\0"))]

    def _write(self, row: int, content: bytes) -> None:
        try:
            is_whole = os.pwrite(self._file, content, row) == len(content)
        except OSError as failed:
            self._warn(f"the rate file cannot be written ({failed.strerror}); counting in memory")
            is_whole = False
        if not is_whole:
            self._unwritten[row] = content
        elif self._unwritten:
            self._unwritten.pop(row, None)

    def _check_header(self) -> None:
        """Put back a header that was cut off or damaged; take over the secret of a newer one.

        A worker that starts meanwhile would otherwise count the same callers in other rows.
        """
        self._next_check = self._clock.monotonic() + _HEADER_CHECK_SECONDS
        try:
            found = os.pread(self._file, _HEADER.size, 0)
        except OSError:
            return  # the rows' own reads report it
        if found == self._header:
            return
        if len(found) == _HEADER.size and found[:-_SECRET_BYTES] == self._header[:-_SECRET_BYTES]:
            self._header = found
            self.place_of.cache_clear()
            return
        self._warn("the rate file was cut short or damaged; counts begin anew where they are lost")
        if self._lock_now(_HEADER_BYTES, 0):
            try:
                self._write_header()
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _HEADER_BYTES, 0)

    def _write_header(self) -> None:
        try:
            os.pwrite(self._file, self._header, 0)
        except OSError as failed:
            self._warn(f"the rate file cannot be written ({failed.strerror}); counting in memory")

    def _warn(self, event: str) -> None:
        """Log an event once in a while, however many requests meet it."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _WARN_SECONDS
            _log.warning("%s: %s (TAMIS_RATE_FILE)", self._path, event)

    @property
    def _size(self) -> int:
        return _HEADER_BYTES + self._rows * _ROW.size

    def _place_of(self, name: str) -> Place:
        digest = blake2b(
            name.encode(), key=self._header[-_SECRET_BYTES:], digest_size=8, person=b"tamis-rates"
        )
        number = int.from_bytes(digest.digest(), "big")
        return _HEADER_BYTES + number % self._rows * _ROW.size, number | 1 << 63

    def _prepare(self, path: Path) -> bytes:
        """Return the header of a table that holds now, beginning anew after a reboot.

        The file never shrinks and is written in place: other processes may have it open. It is
        written whole, so that a full disk is noticed at the start.
        """
        is_locked = self._lock(_HEADER_BYTES, 0)
        try:
            header = os.pread(self._file, _HEADER.size, 0)
            is_foreign = header.strip(b"\0") and header[: len(_MAGIC)] != _MAGIC[: len(header)]
            if is_foreign and os.fstat(self._file).st_size != self._size:  # else ours, damaged
                raise SettingsError(f"{path} is no file of Tamis's counts: name another (TAMIS_RATE_FILE)")
            expected = _HEADER.pack(_MAGIC, _boot(), self._rows, bytes(_SECRET_BYTES))[:-_SECRET_BYTES]
            is_ours = len(header) == _HEADER.size and header[:-_SECRET_BYTES] == expected
            self._fill(os.fstat(self._file).st_size if is_ours else 0)
            if not is_ours:
                header = expected + os.urandom(_SECRET_BYTES)
                os.pwrite(self._file, header, 0)
            return header
        finally:
            if is_locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _HEADER_BYTES, 0)

    def _fill(self, start: int) -> None:
        """Write zeros from `start` to the table's end."""
        missing = self._size - start
        if missing > 0 and os.pwrite(self._file, bytes(missing), start) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def gcra(ahead: int, cost: int, most_ahead: int) -> tuple[int, int]:
    """Return how far a caller is ahead of the even rate afterwards, and how long to wait; 0 is accepted.

    The generic cell rate algorithm, all in one unit of time. `ahead` may be negative, after a pause,
    which earns nothing beyond the burst; what is over `most_ahead` was counted under other settings
    and is forgotten.
    """
    ahead = min(max(ahead, 0), most_ahead)
    wait = ahead + cost - most_ahead
    return (ahead, wait) if wait > 0 else (ahead + cost, 0)


def _first_over(slots: list[int]) -> int:
    """Return the slot whose time is over first; that of an empty one is 0."""
    times = slots[_SLOTS_PER_ROW:]
    return times.index(min(times))


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def _boot() -> bytes:
    """Return which boot of this machine it is; where that cannot be known, times still end in a burst."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
