"""Where calls wait while their store is away. Knows records and a local file; knows no store."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import final

import apsw
import msgspec

from tamis.errors import StoreError
from tamis.storage.sqlite.connection import FAILURES, File, Worker, store_error, transaction
from tamis.types import CallRecord

SPOOL_ROWS = 100_000
"""Calls that a spool holds where the operator does not say."""

SPOOL_BYTES = 64 * 2**20
"""Bytes of text that a spool in memory holds where the operator does not say."""


class Spool(ABC):
    """A bounded queue of calls, each known by its id."""

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file that keeps the calls when the process ends; None for a spool in memory."""

    @abstractmethod
    async def open(self) -> None:
        """Find what an earlier process left behind."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the file, if there is one."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of calls that wait."""

    @abstractmethod
    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Take as many of `calls` as there is room for; return how many that were."""

    @abstractmethod
    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the first calls in the order of their ids, and keep them."""

    @abstractmethod
    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Forget calls that have arrived at their store."""


@final
class MemorySpool(Spool):
    """Calls in this process's memory: a killed process loses them."""

    def __init__(self, *, max_rows: int = SPOOL_ROWS, max_bytes: int = SPOOL_BYTES):
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._calls: dict[bytes, CallRecord] = {}
        self._bytes = 0

    @property
    def path(self) -> None:
        """There is no file."""
        return None

    async def open(self) -> None:
        """Find nothing."""

    async def close(self) -> None:
        """Have nothing to let go of."""

    def __len__(self) -> int:
        return len(self._calls)

    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Take calls until the first that does not fit."""
        before = len(self._calls)
        for call in calls:
            size = len(call.text.encode())
            if len(self._calls) >= self._max_rows or self._bytes + size > self._max_bytes:
                break
            if call.id not in self._calls:
                self._calls[call.id] = call
                self._bytes += size
        return len(self._calls) - before

    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the calls that came first: ids increase as they come."""
        return list(islice(self._calls.values(), limit))

    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Forget `calls`."""
        for call in calls:
            if self._calls.pop(call.id, None) is not None:
                self._bytes -= len(call.text.encode())


@final
class FileSpool(Spool):
    """Calls in an SQLite file of this process alone: they survive `kill -9`.

    With `slots` several processes share one name: each takes the first file, `spool.tamis`,
    `spool-1.tamis` and so on, that no other process has open.
    """

    def __init__(self, path: Path, *, max_rows: int = SPOOL_ROWS, slots: int = 1):
        names = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(1, slots))]
        self._files = [File(name, full_durability=False) for name in names]
        self._file = self._files[0]
        self._max_rows = max_rows
        self._worker: Worker | None = None
        self._rows = 0
        self._one_change = asyncio.Lock()

    @property
    def path(self) -> Path:
        """The file that this process has taken."""
        return self._file.path

    async def open(self) -> None:
        """Open the file, which no other process may have open, and count what waits there."""
        await self.close()
        self._files[0].path.parent.mkdir(parents=True, exist_ok=True)  # a mock model has no folder yet
        for file in self._files[:-1]:
            with suppress(StoreError):
                return await self._open(file)
        await self._open(self._files[-1])

    async def close(self) -> None:
        """Close the file; what waits there is found again by the next `open`."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    def __len__(self) -> int:
        return self._rows

    async def put(self, calls: Sequence[CallRecord]) -> int:
        """Take calls while there is room."""
        async with self._one_change:
            room = max(0, self._max_rows - self._rows)
            rows = [(call.id, msgspec.msgpack.encode(call)) for call in calls[:room]]
            taken = await self._change("INSERT INTO spool VALUES (?, ?) ON CONFLICT (id) DO NOTHING", rows)
            self._rows += taken
            return taken

    async def oldest(self, limit: int) -> list[CallRecord]:
        """Return the calls with the lowest ids."""
        query = "SELECT call FROM spool ORDER BY id LIMIT ?"
        rows = await self._opened().run(lambda connection: list(connection.execute(query, (limit,))))
        return [msgspec.msgpack.decode(call, type=CallRecord) for (call,) in rows]

    async def remove(self, calls: Sequence[CallRecord]) -> None:
        """Forget `calls`."""
        async with self._one_change:
            self._rows -= await self._change("DELETE FROM spool WHERE id = ?", [(call.id,) for call in calls])

    async def _change(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> int:
        def change(connection: apsw.Connection) -> int:
            before = connection.total_changes()
            with transaction(connection):
                connection.executemany(statement, rows)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return connection.total_changes() - before

        return await self._opened().run(change)

    def _opened(self) -> Worker:
        if self._worker is None:
            raise StoreError(f"{self._file.path}: the spool is not open", fault="unavailable")
        return self._worker

    async def _open(self, file: File) -> None:
        self._file = file
        worker = Worker("spool", self._connect)
        try:
            self._rows = await worker.run(_count)
        except StoreError:
            await worker.close()
            raise
        self._worker = worker

    def _connect(self) -> apsw.Connection:
        self._file.create_if_missing()
        connection = self._file.connect(lock_seconds=0)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # two would send each other's rows
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spool (id BLOB PRIMARY KEY, call BLOB NOT NULL) STRICT"
            )
            with transaction(connection):  # takes the lock now, not with the first row
                connection.execute("PRAGMA user_version = 1")
        except FAILURES as failed:
            raise store_error(self._file.path, failed) from failed
        return connection


def _count(connection: apsw.Connection) -> int:
    rows: int = connection.execute("SELECT count(*) FROM spool").get
    return rows
