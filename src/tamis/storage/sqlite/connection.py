"""Connections to one SQLite file, and the threads that own them. Handles SQLite; independent of tables."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from tamis.errors import StoreError

Result = TypeVar("Result")

FAILURES = (apsw.Error, OSError)
"""What SQLite, and the files beside its own, raise: `store_error` turns it into one line.

Caught at each place and not by a context manager, which would be three more calls on the path of every
request.
"""

# a poll, because nothing reports that another process has released a lock of SQLite's; its own
# waiting sleeps up to 100 ms between attempts, where a commit takes less than one
_POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A database file on disk and how connections to it behave."""

    path: Path
    full_durability: bool

    def connect(self, *, lock_seconds: float) -> apsw.Connection:
        """Open a connection that waits up to `lock_seconds` for a lock of another process."""
        try:
            connection = apsw.Connection(str(self.path))
            _wait_for_locks(connection, lock_seconds)
            _enter_wal(connection, lock_seconds)
            # in WAL mode, NORMAL survives `kill -9` without waiting for the disk, FULL also a loss of power
            connection.execute(f"PRAGMA synchronous = {'FULL' if self.full_durability else 'NORMAL'}")
            connection.wal_autocheckpoint(0)  # the checkpoint thread's work, never a writer's
        except FAILURES as failed:
            raise store_error(self.path, failed) from failed
        return connection

    def create_if_missing(self) -> None:
        """Create an empty file that only its owner may read: it will hold texts."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as failed:
            message = f"{self.path}: cannot be opened for writing ({failed.strerror})"
            raise StoreError(message, fault=_errno_fault(failed)) from None


class Worker:
    """One thread with its own connection, which is opened when it is first needed."""

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]):
        # one thread: it owns the connection, and its steps run in the order of `run`
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"tamis-{name}")
        self._connect = connect
        self._connection: apsw.Connection | None = None
        self._is_closed = False

    async def run(self, work: Callable[[apsw.Connection], Result]) -> Result:
        """Return `work(connection)`, done in the thread; raise `StoreError` for SQLite's errors."""
        if self._is_closed:  # the store was closed, or reopened, between two steps of a reader
            raise StoreError("the store was closed meanwhile; try again", fault="unavailable")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._work, work)

    async def close(self, *, checkpoint: bool = True) -> None:
        """Finish the work that was submitted, close the connection and end the thread."""
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close, checkpoint)
        self._executor.shutdown()

    def _work(self, work: Callable[[apsw.Connection], Result]) -> Result:
        if self._connection is None:
            self._connection = self._connect()
        try:
            return work(self._connection)
        except FAILURES as failed:
            raise store_error(self._connection.filename, failed) from failed

    def _close(self, checkpoint: bool) -> None:
        if self._connection is not None:
            close_quietly(self._connection, checkpoint=checkpoint)
            self._connection = None


class transaction:
    """Writes what the block writes, all or nothing.

    `IMMEDIATE`, because SQLite's waiting for locks does not help a reader that wants to write. A
    class and not a generator, which is slower: every commit of many rows passes here.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection):
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:  # some errors have already rolled it back
                self._connection.execute("ROLLBACK")


def store_error(path: object, failure: apsw.Error | OSError) -> StoreError:
    """Return the error that names the file, the cause and the remedy in one line, and its fault."""
    fault, advice = _classified(failure)
    return StoreError(f"{path}: {advice}", fault=fault)


def close_quietly(connection: apsw.Connection, *, checkpoint: bool = True) -> None:
    """Close, by force if the file is broken.

    Without a checkpoint SQLite leaves the file at the WAL's path alone, which may be another process's.
    """
    if not checkpoint:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    try:
        connection.close()
    except apsw.Error:
        # with force, because the handle would stay open until the process ends
        connection.close(True)


def _wait_for_locks(connection: apsw.Connection, lock_seconds: float) -> None:
    """Ask again every millisecond: SQLite's own backoff grows to 100 ms and starves late comers."""
    max_polls = _polls(lock_seconds)

    def again(polls: int) -> bool:
        if polls >= max_polls:
            return False
        time.sleep(_POLL_SECONDS)
        return True

    connection.set_busy_handler(again)


def _enter_wal(connection: apsw.Connection, lock_seconds: float) -> None:
    """Switch a new file to WAL; SQLite itself does not wait for another process that does so now."""
    for _ in range(_polls(lock_seconds)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            time.sleep(_POLL_SECONDS)
        else:
            return
    # the last attempt: its BusyError is the caller's
    connection.execute("PRAGMA journal_mode = WAL")


def _polls(lock_seconds: float) -> int:
    return round(lock_seconds / _POLL_SECONDS)


def _classified(error: apsw.Error | OSError) -> tuple[str, str]:
    """Return which of `STORE_FAULTS` an error is, and the remedy."""
    if isinstance(error, OSError):
        fault = _errno_fault(error)
        return fault, _FULL if fault == "full" else f"the disk failed ({error.strerror})"
    for kind, fault, advice in _FAULTS:
        if isinstance(error, kind):
            return fault, advice
    return "other", f"SQLite failed: {error}"


def _errno_fault(error: OSError) -> str:
    # an unknown errno is treated as a failing disk: the calls wait in the spool either way
    return _FAULT_BY_ERRNO.get(error.errno or 0, "io")


_FAULT_BY_ERRNO = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "readonly",
    errno.EPERM: "readonly",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
}
_FULL = "the disk is full; make room"
_LOCKED = "locked by another process; end it, or wait"
_RESTORE = "move it away and a new one will be created, or restore a backup"
_FAULTS: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (apsw.BusyError, "locked", _LOCKED),
    (apsw.LockedError, "locked", _LOCKED),
    (apsw.FullError, "full", _FULL),
    (apsw.ReadOnlyError, "readonly", "is read-only; give this user write permission"),
    (apsw.PermissionsError, "readonly", "is read-only; give this user write permission"),
    (
        apsw.CantOpenError,
        "missing",
        "cannot be opened; check that its folder exists and that this user may write there",
    ),
    (apsw.CorruptError, "corrupt", f"damaged; {_RESTORE}"),
    (apsw.NotADBError, "corrupt", f"not an SQLite file; {_RESTORE}"),
    (apsw.IOError, "io", "the disk failed; see the system log"),
    (apsw.InterruptError, "timeout", "interrupted: it took too long"),
)
