"""One opening of a store's file: connections, threads, cache and the watch over the files.

    commit ─► event loop's connection, or writer thread     reads ─► reader thread
    checkpoints ─► checkpoint thread                         cache ─► its own thread

Files that are removed or replaced while they are open are noticed by `open_files`; the WAL of such a file is
written back before it is closed, so that acknowledged rows stay in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import apsw

from tamis.clock import Clock, SteadyClock
from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.rows import CallRecord
from tamis.storage.sqlite.cache import CacheFiles, CacheWriter
from tamis.storage.sqlite.commit import Checkpointer, GroupCommit
from tamis.storage.sqlite.connection import DatabaseFile, Worker, close_quietly
from tamis.storage.sqlite.open_files import FolderLock, OpenFiles
from tamis.storage.sqlite.schema import migrate
from tamis.storage.sqlite.table import CALLS

# a checkpoint that waits for a reader keeps all writers waiting
_CHECKPOINT_LOCK_SECONDS = 0.1

_WATCH_SECONDS = 1.0
"""A lost file is noticed by each commit, and otherwise within this time."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SqliteSession:
    """Connections to one file, until it is closed or lost."""

    path: Path
    files: OpenFiles
    secret: bytes
    retention_days: int
    """Days that calls are kept by default; 0, forever, in files of older versions."""
    migrations: list[str]
    """The migrations that were run when it was opened."""
    here: apsw.Connection
    """The loop's own connection: it never waits for a lock."""
    cache: CacheWriter
    commit: GroupCommit
    checkpointer: Checkpointer
    writer: Worker
    reader: Worker

    @classmethod
    async def open(
        cls, file: DatabaseFile, clock: Clock, options: StoreOptions, *, now: Callable[[], int]
    ) -> Self:
        """Create the file if it is missing, migrate its tables and connect."""
        workers = _Workers(file, options.lock_seconds)
        # another process may be writing a lost WAL back, or creating the file
        async with FolderLock(file.path):
            await asyncio.to_thread(file.create_if_missing)
            try:
                migrations, secret, retention_days = await workers.writer.run(_prepare)
                # in the thread: opening may wait for a lock and for the disk, the loop must not
                here = await workers.writer.run(lambda _: workers.connect())
                # now: later they might find another WAL at the path
                await workers.reader.run(lambda _: None)
                await workers.checkpoint.run(lambda _: None)
                files = OpenFiles(str(file.path), here.filename_wal)
            except StoreError:
                await workers.close()
                raise
        # from now on a locked file is reported at once, and the writer's thread waits for it
        here.set_busy_handler(None)
        cache_files = CacheFiles(file.path, options.cache_rows, is_alone=options.is_alone)
        checkpointer = Checkpointer(workers.checkpoint, files.require_in_place)
        writing = _writing_to(files)
        commit = GroupCommit(
            here, workers.writer, writing, clock=clock, only_threaded=options.full_durability
        )
        cache = CacheWriter(cache_files, now, cache_seconds=options.cache_seconds, disk=commit.disk)
        await cache.open()
        # every connection that commits: the size of the WAL is reported to the committing one
        await workers.writer.run(checkpointer.watch)
        checkpointer.watch(here)
        return cls(
            path=file.path,
            files=files,
            secret=secret,
            retention_days=retention_days,
            migrations=migrations,
            here=here,
            cache=cache,
            commit=commit,
            checkpointer=checkpointer,
            writer=workers.writer,
            reader=workers.reader,
        )

    async def close(self) -> None:
        """Commit what is waiting and close everything."""
        await self.commit.finish()
        await self.cache.close()
        # after the last commit and before any connection closes: they still have a removed WAL open
        is_lost = await self._rescue_if_lost()
        await self.checkpointer.close(checkpoint=not is_lost)
        await self.reader.close(checkpoint=not is_lost)
        # not on the loop: the last connection to close writes back the whole WAL
        await self.writer.run(lambda _: close_quietly(self.here, checkpoint=not is_lost))
        await self.writer.close(checkpoint=not is_lost)
        self.files.close()

    async def _rescue_if_lost(self) -> bool:
        """Write back a WAL that was removed; return whether any file was."""
        try:
            self.files.require_same()
        except StoreError as lost:
            try:
                await self.writer.run(self._rescue)
            except StoreError as failed:
                _logger.error("%s; its rows could not be rescued: %s", lost, failed)
            return True
        return False

    def _rescue(self, connection: apsw.Connection) -> None:
        with FolderLock(self.path):
            if self.files.is_wal_rescuable:
                pages, written = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
                if written < pages:
                    raise StoreError(f"{self.path}: {pages - written} pages of its WAL were not written")
                self.files.retire_wal()
                _logger.warning("%s: lost its WAL; the %d pages in it were rescued", self.path, pages)


@final
class SessionKeeper:
    """Keeps one session open: opens it, and opens another when its files are lost."""

    def __init__(self, file: DatabaseFile, clock: Clock, options: StoreOptions):
        self._file, self._clock, self._options = file, clock, options
        self.steady = SteadyClock(clock)
        self.now: SqliteSession | None = None
        # `open`, `close` and `reopened` replace the session, one at a time
        self._opening = asyncio.Lock()
        self._next_watch: asyncio.TimerHandle | None = None
        self._reopening: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        """The database file."""
        return self._file.path

    @property
    def current(self) -> SqliteSession:
        """The open session; StoreError if there is none."""
        if self.now is None:
            raise StoreError(f"{self._file.path}: the store is not open", fault="unavailable")
        return self.now

    @property
    def is_reopening(self) -> bool:
        """Whether there is no session for the moment."""
        return self.now is None and self._opening.locked()

    async def open(self) -> SqliteSession:
        """Open a new session."""
        async with self._opening:
            await self._close()
            return await self._open()

    async def close(self) -> None:
        """Close the session."""
        async with self._opening:
            await self._close()

    async def reopened(self, lost: SqliteSession | None) -> SqliteSession:
        """Replace a session that is `lost`, unless that was done meanwhile; return the open one."""
        async with self._opening:
            if lost is not None and self.now is lost:
                await self._close()
                await self._open()
            return self.current

    async def _open(self) -> SqliteSession:
        self.now = await SqliteSession.open(self._file, self._clock, self._options, now=self.steady.now)
        self._watch_later()
        return self.now

    async def _close(self) -> None:
        if self._next_watch is not None:
            self._next_watch.cancel()
        session, self.now = self.now, None
        if session is not None:
            await session.close()

    def _watch_later(self) -> None:
        self._next_watch = asyncio.get_running_loop().call_later(_WATCH_SECONDS, self._watch)

    def _watch(self) -> None:
        """Rescue a lost WAL also while nothing is committed, before the process ends with it."""
        if self.now is None:
            return
        with suppress(StoreError):  # a lost file: from now on every commit is refused
            self.now.files.require_same()
        if self.now.files.has_lost_companions:
            self._reopening = asyncio.create_task(self._reopen_if_possible(self.now))
        else:
            self._watch_later()

    async def _reopen_if_possible(self, lost: SqliteSession) -> None:
        try:
            await self.reopened(lost)
        except StoreError as failed:  # the next append meets the same fault and reports it
            _logger.warning("store not reopened: %s", failed)


class _Workers:
    """The threads of one session; what they have opened is closed if opening fails."""

    def __init__(self, file: DatabaseFile, lock_seconds: float):
        self._file, self._lock_seconds = file, lock_seconds
        self.writer, self.reader = Worker("write", self.connect), Worker("read", self.connect)
        self.checkpoint = Worker("checkpoint", lambda: file.connect(lock_seconds=_CHECKPOINT_LOCK_SECONDS))

    def connect(self) -> apsw.Connection:
        return self._file.connect(lock_seconds=self._lock_seconds)

    async def close(self) -> None:
        for worker in (self.reader, self.checkpoint, self.writer):
            await worker.close()


def _writing_to(files: OpenFiles) -> Callable[[apsw.Connection, Sequence[CallRecord]], None]:
    def write(connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
        # before: others may have begun a new WAL; after: rows in a file that was removed are not kept
        files.require_in_place()
        CALLS.insert(connection, calls)
        files.require_in_place()

    return write


def _prepare(connection: apsw.Connection) -> tuple[list[str], bytes, int]:
    connection.execute("PRAGMA secure_delete = ON")  # this connection is the one that deletes
    migrations = migrate(connection)
    secret: bytes = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    days: bytes | None = connection.execute("SELECT value FROM meta WHERE name = 'retention_days'").get
    return migrations, secret, int(days or 0)
