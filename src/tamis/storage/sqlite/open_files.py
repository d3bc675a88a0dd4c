"""Whether the files that SQLite has open are still the ones at their paths.

SQLite does not notice that its database, its WAL or its shared memory was removed or replaced: it
commits on into a file that no longer has a name, and the rows are gone with the process. So every
commit asks here before it is acknowledged. Asking must be cheap: inotify reports, by one system call,
that nothing has happened to any of the files; only otherwise, or without inotify, each is looked at.

    commit ─► require_in_place ─► inotify: nothing happened ─► commit
                                  inotify: an event ─► require_same: the files are the same ─► commit
                                                       one is lost ─► StoreError
    WAL lost ─► is_wal_rescuable ─► a connection that has it open writes it back ─► retire_wal ─► open again
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import stat
import threading
import time
from pathlib import Path
from typing import final

from tamis.errors import StoreError
from tamis.inotify import MOVED_FROM_OR_SELF, drain, open_inotify

# IN_ATTRIB, IN_MOVE_SELF and IN_DELETE_SELF of inotify(7): the number of links or the mode changed, moved,
# deleted
_CHANGES = 0x4 | 0x800 | 0x400

_RESCUED = 0o400
"""Mode of a WAL that has been written back: processes that still have it open see it without its name."""

# a migration or a rescue holds the lock; one that takes longer is reported, not waited for
_FOLDER_LOCK_SECONDS = 10.0
# a poll, because no event reports that flock was released, and a blocking flock has no deadline
_POLL_SECONDS = 0.005


@final
class OpenFiles:
    """The database, its WAL and its shared memory, as they were when this was made."""

    def __init__(self, database: str, wal: str):
        """Take the paths; all three files must exist. Raises StoreError if one does not."""
        self.paths = (database, wal, f"{wal.removesuffix('-wal')}-shm")
        folder = str(Path(database).resolve().parent)
        watches = [*((path, _CHANGES) for path in self.paths), (folder, MOVED_FROM_OR_SELF)]
        self._inotify = open_inotify(watches)
        self._poll = select.poll() if self._inotify >= 0 else None
        """None where the files themselves must be looked at."""
        if self._poll is not None:
            self._poll.register(self._inotify, select.POLLIN)
        self._looking = threading.Lock()
        self._wal = -1
        try:
            self._identities = [_identity(path) for path in self.paths]
            self._wal = _opened(wal)  # SQLite's locks are on the other two: closing this one gives none up
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Stop watching."""
        self._poll = None
        for descriptor in (self._inotify, self._wal):
            if descriptor >= 0:
                os.close(descriptor)
        self._inotify = self._wal = -1

    def require_in_place(self) -> None:
        """Raise StoreError if a file was removed or replaced since."""
        poll = self._poll
        try:
            has_event = poll is None or bool(poll.poll(0))
        except RuntimeError:  # another thread polls at this moment, and looks at the files if need be
            has_event = False
        if has_event:
            self.require_same()

    def require_same(self) -> None:
        """Look at each file, whatever inotify has reported; raise StoreError as `require_in_place`."""
        with self._looking:
            # until the end, or for good if a file is lost: other threads must not find the queue empty
            poll, self._poll = self._poll, None
            # before looking: what changes later is reported by a new event
            drain(self._inotify)
            for path, identity in zip(self.paths, self._identities, strict=True):
                if _identity(path) != identity:
                    raise StoreError(f"{path}: the file was replaced by another one", fault="missing")
            self._poll = poll

    @property
    def has_lost_companions(self) -> bool:
        """Whether WAL or shared memory were removed or replaced and the database itself is in place."""
        database, *companions = self._in_place()
        return database and not all(companions)

    @property
    def is_wal_rescuable(self) -> bool:
        """Whether WAL or shared memory are gone, with nothing new in their place now or since.

        Then the connections that still have them open can write the WAL back into the database. If
        another process has begun a new WAL, writing back the old one would damage its work.
        """
        _, *companions = zip(self.paths, self._in_place(), strict=True)
        return (
            self.has_lost_companions
            and stat.S_IMODE(os.fstat(self._wal).st_mode) != _RESCUED
            and all(is_in_place or not os.path.lexists(path) for path, is_in_place in companions)
        )

    def retire_wal(self) -> None:
        """Mark the WAL as written back, and remove what is left of it: the next opener begins a new one.

        Processes that have not noticed the loss must neither rescue it again nor share a WAL with those
        that have, because they no longer share its locks.
        """
        # before the removal, at which other processes look at their files
        os.fchmod(self._wal, _RESCUED)
        _, *companions = zip(self.paths, self._in_place(), strict=True)
        for path, is_in_place in companions:
            if is_in_place:
                os.unlink(path)

    def _in_place(self) -> list[bool]:
        found: list[bool] = []
        for path, identity in zip(self.paths, self._identities, strict=True):
            try:
                found.append(_identity(path) == identity)
            except StoreError:
                found.append(False)
        return found


class FolderLock:
    """Lets one process at a time open the store, or rescue a lost WAL before others begin a new one.

    The lock is on the folder, so that it leaves no file. Raises StoreError where the folder is missing,
    or if another process keeps the lock.
    """

    def __init__(self, database: Path):
        self._database = database
        self._folder = -1
        self._deadline = time.monotonic() + _FOLDER_LOCK_SECONDS

    def __enter__(self) -> None:
        """Wait for the lock in this thread."""
        self._open()
        while not self._try():
            time.sleep(_POLL_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._close()

    async def __aenter__(self) -> None:
        """Wait for the lock while the event loop goes on."""
        self._open()
        try:
            while not self._try():
                await asyncio.sleep(_POLL_SECONDS)
        except asyncio.CancelledError:
            self._close()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def _open(self) -> None:
        try:
            self._folder = os.open(self._database.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            return  # it may be entered but not be read: as on a file system without such locks
        except OSError as failed:
            message = f"{self._database}: cannot be opened; does its folder exist? ({failed.strerror})"
            raise StoreError(message, fault="missing") from None

    def _try(self) -> bool:
        """Return whether there is nothing more to wait for."""
        if self._folder < 0:
            return True
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < self._deadline:
                return False
            self._close()
            message = f"{self._database}: its folder is locked by another process; end it, or wait"
            raise StoreError(message, fault="locked") from None
        except OSError:
            return True  # a file system without such locks
        return True

    def _close(self) -> None:
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as failed:
        raise StoreError(f"{path}: the file is gone ({failed.strerror})", fault="missing") from None
    return found.st_dev, found.st_ino


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as failed:
        raise StoreError(f"{path}: the file is gone ({failed.strerror})", fault="missing") from None
