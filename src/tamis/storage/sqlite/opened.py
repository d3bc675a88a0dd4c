"""All that belongs to one opening of the store's file: connections, threads, cache, watch.

    commit → event loop's connection, or writer thread     reads → reader thread
    checkpoints → upkeep thread                             cache → its own thread

Files that lose their names while they are open are noticed by `open_files`; the WAL of such a file is
written back before it is let go, so that what was acknowledged stays in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.sqlite import log
from tamis.storage.sqlite.cache import Cache
from tamis.storage.sqlite.cache_writer import CacheWriter
from tamis.storage.sqlite.commit import GroupCommit
from tamis.storage.sqlite.connection import File, Worker, close_quietly
from tamis.storage.sqlite.open_files import FolderLock, OpenFiles
from tamis.storage.sqlite.schema import migrate
from tamis.storage.sqlite.upkeep import Upkeep
from tamis.types import CallRecord

_UPKEEP_LOCK_SECONDS = 0.1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """Connections to one file, until it is closed or lost."""

    path: Path
    files: OpenFiles
    secret: bytes
    here: apsw.Connection
    """The loop's own connection: it never waits for a lock."""
    cache: CacheWriter
    commit: GroupCommit
    upkeep: Upkeep
    writer: Worker
    reader: Worker

    @classmethod
    async def open(cls, file: File, clock: Clock, options: StoreOptions, *, now: Callable[[], int]) -> Self:
        """Create the file if it is missing, bring its tables up to date and connect."""
        connect = _Connecting(file, options.lock_seconds)
        async with FolderLock(file.path):
            await asyncio.to_thread(file.create_if_missing)
            try:
                secret = await connect.writer.run(_prepare)
                here = await connect.writer.run(lambda _: connect.connect())
                # now: later they might find another WAL at the path
                await connect.reader.run(lambda _: None)
                await connect.upkeep.run(lambda _: None)
                files = OpenFiles(str(file.path), here.filename_wal)
            except StoreError:
                await connect.close()
                raise
        here.set_busy_handler(None)
        cache = CacheWriter(
            Cache(file.path, options.cache_rows, is_alone=options.is_alone),
            now,
            cache_seconds=options.cache_seconds,
        )
        await cache.open()
        upkeep = Upkeep(connect.upkeep, files.require_in_place)
        commit = GroupCommit(
            here, connect.writer, _writing_to(files), clock=clock, only_threaded=options.full_durability
        )
        await connect.writer.run(upkeep.watch)
        upkeep.watch(here)
        return cls(file.path, files, secret, here, cache, commit, upkeep, connect.writer, connect.reader)

    async def close(self) -> None:
        """Commit what is waiting and close everything."""
        await self.commit.finish()
        await self.cache.close()
        is_lost = await self._rescue_if_lost()
        await self.upkeep.close(checkpoint=not is_lost)
        await self.reader.close(checkpoint=not is_lost)
        # not on the loop: whoever closes a file last writes back its whole WAL
        await self.writer.run(lambda _: close_quietly(self.here, checkpoint=not is_lost))
        await self.writer.close(checkpoint=not is_lost)
        self.files.close()

    async def _rescue_if_lost(self) -> bool:
        """Write back a WAL that has lost its name; return whether any file has."""
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


class _Connecting:
    """The threads of one opening; what they have opened is closed if the opening fails."""

    def __init__(self, file: File, lock_seconds: float):
        self._file, self._lock_seconds = file, lock_seconds
        self.writer, self.reader = Worker("write", self.connect), Worker("read", self.connect)
        # waits briefly: a checkpoint that waits for a reader keeps all writers waiting
        self.upkeep = Worker("upkeep", lambda: file.connect(lock_seconds=_UPKEEP_LOCK_SECONDS))

    def connect(self) -> apsw.Connection:
        return self._file.connect(lock_seconds=self._lock_seconds)

    async def close(self) -> None:
        for worker in (self.reader, self.upkeep, self.writer):
            await worker.close()


def _writing_to(files: OpenFiles) -> Callable[[apsw.Connection, Sequence[CallRecord]], None]:
    def write(connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
        # before: others may have begun a new WAL; after: what went into a file without a name is not kept
        files.require_in_place()
        log.insert(connection, calls)
        files.require_in_place()

    return write


def _prepare(connection: apsw.Connection) -> bytes:
    connection.execute("PRAGMA secure_delete = ON")  # this connection is the one that deletes
    migrate(connection)
    secret: bytes = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    return secret
