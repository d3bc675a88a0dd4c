"""How far each caller is ahead of the even rate: a file of fixed size, shared by all workers of a machine.

    page 0   magic, boot, number of rows, secret of the hash
    row 0    16 hashes of 8 bytes | 16 times of 8 bytes
    row 1    …                                                  8,192 rows, 2 MB

The file is a hash table: a caller's keyed 64-bit hash chooses a row; a slot of it has the hash and a time.
Callers are stored as hashes only. A row is locked by `fcntl` while one process reads and changes it; the
kernel releases the lock of a process that dies. The file is read and written by `pread` and `pwrite` and
never mapped: truncation by another program would kill a process that maps it (SIGBUS).

Waiting for a lock blocks the event loop, usually for less than a millisecond. If another process keeps a lock
for `_LOCK_SECONDS`, no lock is waited for until `_RETRY_SECONDS` have passed: locked rows are changed all the
same, and two workers that count one caller in the same microsecond may count one request instead of two.

A row that cannot be read is empty; one that cannot be written is kept in memory until it can. Sixteen callers
of one row can be counted at once; a seventeenth replaces the one whose time is over first, usually long ago.
Times are on the monotonic clock, which all processes of one boot share and which cannot be set.
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

SlotKey = tuple[int, int]
"""Key of a caller's slot: the offset of its row in the file, and the caller's hash."""

_SLOTS_PER_ROW: Final = 16
_ROWS = 8_192
_ROW = struct.Struct(f"={_SLOTS_PER_ROW}Q{_SLOTS_PER_ROW}q")

_MAGIC = b"tamis rates 1\n\0\0"
_HEADER = struct.Struct("=16s36sI32s")
"""Magic, the machine's boot, the number of rows, and the secret of the hash."""
# a page of its own, so that the lock on it never covers a row
_HEADER_BYTES = 4_096
_MAX_CACHED_KEYS = 4_096
_NS_PER_SECOND = 1_000_000_000

_LOCK_SECONDS = 0.1
"""A worker holds a row for microseconds; a busy machine may suspend it for some milliseconds."""
# without a pause every request would wait for a lock that another program holds
_RETRY_SECONDS = 5.0
# fcntl has no lock with a timeout, so it is polled; a blocking call could stop the event loop for ever
_POLL_SECONDS = 0.0002
# one system call per second, not per request
_HEADER_CHECK_SECONDS = 1.0
_WARN_SECONDS = 60.0
_SECRET_BYTES = 32

_log = logging.getLogger(__name__)


class Consumed(NamedTuple):
    """The outcome of `RateTable.consume`, in nanoseconds."""

    ahead: int
    """How far the caller is ahead of the even rate afterwards."""
    wait: int
    """The time until the same request would be accepted; 0 if it was."""
    over_at: int
    """The monotonic time at which the caller would no longer be ahead."""


class RateTable:
    """The shared times in the file at `path`, which is created if it is missing or from before a reboot."""

    def __init__(self, path: Path, clock: Clock, *, rows: int = _ROWS):
        self._path, self._clock, self._rows = path, clock, rows
        self._unlocked_until = self._quiet_until = float("-inf")
        try:
            self._file = _opened(path)
            self._header = self._prepare(path)
        except OSError as failed:
            reason = failed.strerror or failed
            raise SettingsError(f"{path}: the rate file cannot be used: {reason} (TAMIS_RATE_FILE)") from None
        self.slot_key = lru_cache(_MAX_CACHED_KEYS)(self._slot_key)
        self._unwritten: dict[int, bytes] = {}  # bounded by the number of rows
        self._next_check = clock.monotonic() + _HEADER_CHECK_SECONDS

    def close(self) -> None:
        """Close the file; the counts stay in it."""
        os.close(self._file)

    def consume(self, key: SlotKey, cost_ns: int, max_ahead_ns: int) -> Consumed:
        """Apply `gcra` to a caller's slot and store the outcome, as one step for all processes."""
        row, caller = key
        is_locked = self._lock(_ROW.size, row)
        try:
            now = round(self._clock.monotonic() * _NS_PER_SECOND)  # under the lock: times keep their order
            slots = self._read(row)
            is_known = caller in slots  # a hash has its top bit set and equals no time
            # a new caller replaces the one whose time is over first; that of an empty slot is 0
            times = slots[_SLOTS_PER_ROW:]
            slot = slots.index(caller) if is_known else times.index(min(times))
            ahead = times[slot] - now if is_known else 0
            ahead, wait = gcra(ahead, cost_ns, max_ahead_ns)
            # a refusal is written, too: gcra may have clamped a time that was counted under other settings
            if is_known or not wait:
                slots[slot], slots[_SLOTS_PER_ROW + slot] = caller, now + ahead
                self._write(row, _ROW.pack(*slots))
        finally:
            if is_locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW.size, row)
        if now >= self._next_check * _NS_PER_SECOND:  # after unlocking: it may lock the header
            self._check_header()
        return Consumed(ahead, wait, now + ahead)

    def refund(self, key: SlotKey, cost_ns: int, *, over_at_ns: int) -> None:
        """Undo a `consume` of `cost_ns` after which the caller was ahead until `over_at_ns`.

        The part of the cost that has elapsed since is not refunded: it no longer limits the caller.
        """
        row, caller = key
        is_locked = self._lock(_ROW.size, row)
        try:
            now = round(self._clock.monotonic() * _NS_PER_SECOND)
            elapsed = max(0, now - (over_at_ns - cost_ns))
            slots = self._read(row)
            if caller in slots and elapsed < cost_ns:  # otherwise another caller has replaced it since
                slots[_SLOTS_PER_ROW + slots.index(caller)] -= cost_ns - elapsed
                self._write(row, _ROW.pack(*slots))
        finally:
            if is_locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW.size, row)

    def _lock(self, length: int, offset: int) -> bool:
        """Lock a part of the file; return False if another process holds it for `_LOCK_SECONDS`."""
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
        self._warn("another process keeps the rate file locked; counting without the lock")
        return False

    def _lock_now(self, length: int, offset: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, offset)
        except OSError:
            return False
        return True

    def _read(self, row: int) -> list[int]:
        """Return a row's hashes and times; a row beyond the end of a truncated file is empty."""
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
        """Restore a header that was cut off or damaged; adopt the secret of a newer one.

        A worker that starts in the meantime would otherwise count the same callers in other rows.
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
            self.slot_key.cache_clear()
            return
        self._warn("the rate file was truncated or damaged; lost counts start at zero")
        if self._lock_now(_HEADER_BYTES, 0):
            try:
                os.pwrite(self._file, self._header, 0)
            except OSError as failed:
                self._warn(f"the rate file cannot be written ({failed.strerror}); counting in memory")
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _HEADER_BYTES, 0)

    def _warn(self, event: str) -> None:
        """Log an event at most once per `_WARN_SECONDS`, however many requests are affected."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _WARN_SECONDS
            _log.warning("%s: %s (TAMIS_RATE_FILE)", self._path, event)

    @property
    def _size(self) -> int:
        return _HEADER_BYTES + self._rows * _ROW.size

    def _slot_key(self, name: str) -> SlotKey:
        # keyed: a client cannot choose addresses that fall into one row and evict each other's counts
        secret = self._header[-_SECRET_BYTES:]
        digest = blake2b(name.encode(), key=secret, digest_size=8, person=b"tamis-rates")
        number = int.from_bytes(digest.digest(), "big")
        # the top bit is set: such a hash equals neither an empty slot (0) nor a time
        return _HEADER_BYTES + number % self._rows * _ROW.size, number | 1 << 63

    def _prepare(self, path: Path) -> bytes:
        """Return the header of a valid table; one from before a reboot is cleared.

        The file never shrinks and is written in place: other processes may have it open. It is written
        completely, so that a full disk is noticed at the start.
        """
        is_locked = self._lock(_HEADER_BYTES, 0)
        try:
            header = os.pread(self._file, _HEADER.size, 0)
            is_foreign = header.strip(b"\0") and header[: len(_MAGIC)] != _MAGIC[: len(header)]
            # a wrong magic in a file of exactly our size is damage; in any other it is another program's file
            if is_foreign and os.fstat(self._file).st_size != self._size:
                raise SettingsError(f"{path} is not a rate file of Tamis; name another (TAMIS_RATE_FILE)")
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


def gcra(ahead: int, cost: int, max_ahead: int) -> tuple[int, int]:
    """Return how far a caller is ahead of the even rate afterwards, and how long to wait; 0 is accepted.

    The generic cell rate algorithm, all in one unit of time. `ahead` is negative after a pause, which earns
    nothing beyond the burst; a value over `max_ahead` was counted under other settings and is clamped.
    """
    ahead = min(max(ahead, 0), max_ahead)
    wait = ahead + cost - max_ahead
    return (ahead, wait) if wait > 0 else (ahead + cost, 0)


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    # no link is followed: in a folder that others can write it could lead to any file of the service's user
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def _boot() -> bytes:
    """Return the id of this boot, empty if it is unknown: stale times then end within one burst."""
    # monotonic times of another boot mean nothing: they could be hours ahead and refuse a caller
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
