"""Queues of calls that wait while their store is unreachable. Handles records and a file, no stores."""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import final

import apsw
import msgspec

from tamis.errors import StoreError
from tamis.storage.rows import CallRecord
from tamis.storage.sqlite.connection import FAILURES, DatabaseFile, Worker, store_error, transaction

SPOOL_ROWS = 100_000
"""Calls that a spool holds by default."""

SPOOL_BYTES = 64 * 2**20
"""Bytes of text that a spool in memory holds by default."""

_FIELDS_1 = ("id", "caller", "text", "label", "score", "model", "from_cache")
"""The fields of a call in version 1, which stored them in this order and without their names."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CallRecord).decode
_logger = logging.getLogger(__name__)


class Spool(ABC):
    """A bounded queue of calls, each identified by its id."""

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file that keeps the calls when the process ends; None for a spool in memory."""

    @abstractmethod
    async def open(self) -> None:
        """Find what an earlier process left in the queue."""

    @abstractmethod
    async def close(self) -> None:
        """Close the file, if there is one."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of calls in the queue."""

    @abstractmethod
    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Add as many of `calls` as there is room for; return how many that were."""

    @abstractmethod
    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the first calls in the order of their ids, and keep them."""

    @abstractmethod
    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Remove calls that have been written to their store."""


@final
class MemorySpool(Spool):
    """Calls in this process's memory: a killed process loses them."""

    def __init__(self, *, max_rows: int = SPOOL_ROWS, max_bytes: int = SPOOL_BYTES):
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._calls: dict[bytes, CallRecord] = {}
        self._bytes = 0

    @property
    def path(self) -> None:
        """None: there is no file."""
        return None

    async def open(self) -> None:
        """Find nothing."""

    async def close(self) -> None:
        """Do nothing: there is no file."""

    def __len__(self) -> int:
        return len(self._calls)

    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Add calls until the first that does not fit."""
        before = len(self._calls)
        for call in calls:
            size = len(call.text.encode())
            if len(self._calls) >= self._max_rows or self._bytes + size > self._max_bytes:
                # the rest is refused, too: the caller learns how many were taken, not which ones
                break
            if call.id not in self._calls:
                self._calls[call.id] = call
                self._bytes += size
        return len(self._calls) - before

    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the calls that were added first: ids increase as they come."""
        return list(islice(self._calls.values(), limit))

    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Remove `calls`."""
        for call in calls:
            if self._calls.pop(call.id, None) is not None:
                self._bytes -= len(call.text.encode())


@final
class FileSpool(Spool):
    """Calls in an SQLite file of this process alone: they survive `kill -9`.

    With `slots` several processes share one name: each locks the first file, `spool.tamis`,
    `spool-1.tamis` and so on, that no other process has open.
    """

    def __init__(self, path: Path, *, max_rows: int = SPOOL_ROWS, slots: int = 1):
        names = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(1, slots))]
        # as the call log by default: commits survive `kill -9`, a loss of power may take the last ones
        self._files = [DatabaseFile(name, full_durability=False) for name in names]
        self._file = self._files[0]
        self._max_rows = max_rows
        self._worker: Worker | None = None
        self._identity: tuple[int, int] | None = None
        self._rows = 0
        # the count of rows is changed after its transaction: by one task at a time
        self._one_change = asyncio.Lock()

    @property
    def path(self) -> Path:
        """The file that this process has locked."""
        return self._file.path

    async def open(self) -> None:
        """Lock a file that no other process has open, migrate it, and count the calls in it."""
        await self.close()
        self._files[0].path.parent.mkdir(parents=True, exist_ok=True)  # a mock model has no folder yet
        # another process keeps its file locked as long as it lives: take the next name
        for file in self._files[:-1]:
            with suppress(StoreError):
                return await self._open(file)
        await self._open(self._files[-1])

    async def close(self) -> None:
        """Close the file; the calls in it are found again by the next `open`."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    def __len__(self) -> int:
        return self._rows

    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Add calls while there is room."""
        async with self._one_change:
            await self._replace_if_removed()
            room = max(0, self._max_rows - self._rows)
            added = await self._change(_INSERTION, [(call.id, _encode(call)) for call in calls[:room]])
            self._rows += added
            return added

    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the calls with the lowest ids."""
        query = "SELECT call FROM spool ORDER BY id LIMIT ?"
        rows = await self._opened().run(lambda connection: list(connection.execute(query, (limit,))))
        return [_decode(call) for (call,) in rows]

    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Remove `calls`."""
        async with self._one_change:
            removed = await self._change("DELETE FROM spool WHERE id = ?", [(call.id,) for call in calls])
            self._rows -= removed

    async def _change(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> int:
        def change(connection: apsw.Connection) -> int:
            before = connection.total_changes()
            with transaction(connection):
                connection.executemany(statement, rows)
            changes = connection.total_changes() - before
            # not count(*), which reads the whole table
            is_empty = connection.execute("SELECT 1 FROM spool LIMIT 1").get is None
            # sent texts must not live on in the WAL
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if is_empty else apsw.SQLITE_CHECKPOINT_PASSIVE
            connection.wal_checkpoint(mode=mode)
            return changes

        return await self._opened().run(change)

    async def _replace_if_removed(self) -> None:
        """Write the queue to a new file if its own was removed: no later process would find that one."""
        if self._worker is None or _identity(self._file.path) == self._identity:
            return
        _logger.warning("%s: the spool was removed; writing its %d calls again", self.path, self._rows)
        lost, file = self._worker, self._file
        rows = await lost.run(lambda connection: list(connection.execute("SELECT id, call FROM spool")))
        self._worker = None
        # SQLite would write to the WAL's path, which may belong to another file by now
        await lost.close(checkpoint=False)
        await self._open(file)
        await self._change(_INSERTION, rows)
        self._rows = await self._opened().run(_count)

    def _opened(self) -> Worker:
        if self._worker is None:
            raise StoreError(f"{self._file.path}: the spool is not open", fault="unavailable")
        return self._worker

    async def _open(self, file: DatabaseFile) -> None:
        self._file = file
        worker = Worker("spool", self._connect)
        try:
            self._rows = await worker.run(_count)
        except StoreError:
            await worker.close()
            raise
        self._worker, self._identity = worker, _identity(file.path)

    def _connect(self) -> apsw.Connection:
        self._file.create_if_missing()
        # waiting is useless: the lock is held for the lifetime of the other process
        connection = self._file.connect(lock_seconds=0)
        try:
            # texts that were sent must not be readable in free pages
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # two would send each other's rows
            with transaction(connection):  # takes the lock now, not with the first row
                _migrate(connection)
        except FAILURES as failed:
            connection.close(True)
            raise store_error(self._file.path, failed) from failed
        except StoreError:
            connection.close(True)
            raise
        return connection


# DO NOTHING: a call is identified by its id, so putting it twice is harmless
_INSERTION = "INSERT INTO spool (id, call) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"


def create_spool(connection: apsw.Connection) -> None:
    """Create the queue."""
    connection.execute("CREATE TABLE IF NOT EXISTS spool (id BLOB PRIMARY KEY, call BLOB NOT NULL) STRICT")


def name_fields(connection: apsw.Connection) -> None:
    """Store each call's fields by name; without names, a new field would shift the others."""
    rows = list(connection.execute("SELECT id, call FROM spool"))
    for id, message in rows:
        fields = dict(zip(_FIELDS_1, msgspec.msgpack.decode(message), strict=True))
        connection.execute("UPDATE spool SET call = ? WHERE id = ?", (_encode(CallRecord(**fields)), id))


MIGRATIONS: tuple[Callable[[apsw.Connection], None], ...] = (create_spool, name_fields)
"""In order; version n means that the first n have run. Never change one that was released."""


def _migrate(connection: apsw.Connection) -> None:
    """Bring the file to this version; refuse another program's file and a newer version."""
    version = connection.pragma("user_version")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables <= {"spool"} or (tables and version == 0):
        raise StoreError(f"{connection.filename}: an SQLite file of another program; name another path")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{connection.filename}: spool version {version} was written by a newer Tamis "
            f"(this one knows {len(MIGRATIONS)}); upgrade Tamis"
        )
    for step in MIGRATIONS[version:]:
        step(connection)
        _logger.info("%s: migration %s", connection.filename, step.__name__)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _count(connection: apsw.Connection) -> int:
    rows: int = connection.execute("SELECT count(*) FROM spool").get
    return rows


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
