"""Where rows are committed: one transaction for what is given together. Knows no SQL.

That is at once, on the loop's own thread: with WAL and `synchronous=NORMAL` a commit waits for no disk,
and handing it to another thread costs more than doing it. Who gives rows has put together what arrived
in one turn of the loop. The loop never waits for a lock,
though: a file that is locked, or is to be written through to the disk, is left to the writer's thread,
and what arrives meanwhile forms the next batch. So is a slow disk: the first commit is the thread's,
which measures it, and after a slow one, wherever it ran, the loop's turn comes again only when the
thread has found the disk fast for ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import apsw

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.storage.io_time import LOOP_IO
from tamis.storage.sqlite.connection import FAILURES, Worker, store_error
from tamis.types import CallRecord

SLOW_COMMIT_SECONDS = 0.05
"""A commit that takes longer says that the disk is stalling."""

AWAY_SECONDS = 10.0
MAX_ROWS_ON_LOOP = 2_000

_THREAD_SECONDS_PER_ROW = 0.0005
"""What the thread may take besides: after each statement it may have to wait for the interpreter's lock."""
_DEFECT = "the rows could not be written: a fault of Tamis, see the log"


@dataclass(slots=True)
class Batch:
    """Rows that share a transaction, and the futures of those who wait for it."""

    calls: list[CallRecord] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def settle(self, error: StoreError | None = None) -> None:
        """Tell everybody who still waits; who was cancelled has left, and disturbs nobody."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(StoreError(*error.args, fault=error.fault))


Write = Callable[[apsw.Connection, Sequence[CallRecord]], None]
"""Writes rows in one transaction; called on the loop's thread or on the writer's."""


@final
class GroupCommit:
    """Commits rows, and collects those that come while the writer's thread is at it."""

    def __init__(
        self, connection: apsw.Connection, writer: Worker, write: Write, *, clock: Clock, only_threaded: bool
    ):
        """Write through `connection` on the loop, which must not wait for locks, or through `writer`."""
        self._connection, self._writer, self._write = connection, writer, write
        self._clock, self._only_threaded = clock, only_threaded
        self._loop = asyncio.get_running_loop()
        self._waiting = Batch()
        self._handed_over: asyncio.Task[None] | None = None
        self._slow_at: float | None = float("-inf")
        """When the last slow commit ended, None once the disk is known to be fast."""

    async def commit(self, calls: Sequence[CallRecord]) -> None:
        """Return when the rows are committed."""
        is_free = self._handed_over is None and self._belongs_on_loop(len(calls))
        if is_free and self._commit_here(calls):
            return
        waiter = self._loop.create_future()
        self._waiting.calls += calls
        self._waiting.waiters.append(waiter)
        if self._handed_over is None:
            self._hand_over_waiting()
        await waiter

    async def finish(self) -> None:
        """Commit what is waiting."""
        while self._handed_over is not None:
            await asyncio.wait([self._handed_over])

    def _belongs_on_loop(self, n_rows: int) -> bool:
        return not self._only_threaded and n_rows <= MAX_ROWS_ON_LOOP and self._slow_at is None

    def _commit_here(self, calls: Sequence[CallRecord]) -> bool:
        """Commit on the loop's thread; return False where the file is locked."""
        started = self._clock.monotonic()
        try:
            with LOOP_IO:
                self._write(self._connection, calls)
        except apsw.BusyError:
            return False
        except FAILURES as failed:
            raise store_error(self._connection.filename, failed) from failed
        finally:
            ended = self._clock.monotonic()
            if ended - started > SLOW_COMMIT_SECONDS:
                self._slow_at = ended
        return True

    def _hand_over_waiting(self) -> None:
        batch, self._waiting = self._waiting, Batch()
        self._handed_over = self._loop.create_task(self._commit_there(batch))

    async def _commit_there(self, batch: Batch) -> None:
        failed: StoreError | None = StoreError(_DEFECT)
        try:
            await self._writer.run(lambda connection: self._write_measured(connection, batch.calls))
            failed = None
        except StoreError as error:
            failed = error
            # who came meanwhile has waited for the same lock: it will not open for them either
            self._waiting.settle(error)
            self._waiting = Batch()
        finally:
            self._handed_over = None
            batch.settle(failed)
            if self._waiting.waiters:
                self._commit_waiting()

    def _write_measured(self, connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
        """Write in the writer's thread, and note whether the disk is slow."""
        started = self._clock.monotonic()
        self._write(connection, calls)
        ended = self._clock.monotonic()
        if len(calls) > MAX_ROWS_ON_LOOP:
            return  # so many take long on any disk
        if ended - started > SLOW_COMMIT_SECONDS + len(calls) * _THREAD_SECONDS_PER_ROW:
            self._slow_at = ended
        elif self._slow_at is not None and ended - self._slow_at >= AWAY_SECONDS:
            self._slow_at = None

    def _commit_waiting(self) -> None:
        """Commit what came while the writer's thread was at it."""
        if not self._belongs_on_loop(len(self._waiting.calls)):
            self._hand_over_waiting()
            return
        failed: StoreError | None = StoreError(_DEFECT)
        try:
            if not self._commit_here(self._waiting.calls):
                self._hand_over_waiting()
            failed = None
        except StoreError as error:
            failed = error
        finally:  # also when something unforeseen goes up to the loop: nobody may wait for ever
            done, self._waiting = self._waiting, Batch()
            done.settle(failed)
