"""Group commit: one transaction for rows that are appended together. Independent of SQL.

    append ─► free and fast: commit on the event loop's thread
           └► locked, slow or full durability: the writer's thread; rows that arrive meanwhile ─► next commit

With WAL and `synchronous=NORMAL` a commit waits for no disk, and handing it to another thread costs more
than doing it, so commits run on the loop's own thread. The loop never waits for a lock, though: if the file
is locked, or every commit is to wait for the disk, the writer's thread commits. So it does on a slow disk:
the first commit is the thread's, which measures it, and after a slow commit the loop commits again only when
the thread has found the disk fast for ten seconds.

A `Checkpointer` moves what the log holds into the database in a third thread, so no response waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import apsw

from tamis.clock import LOOP_IO, Clock
from tamis.errors import StoreError
from tamis.storage.rows import CallRecord
from tamis.storage.sqlite.connection import FAILURES, Worker, store_error

SLOW_COMMIT_SECONDS = 0.05
"""A commit that takes longer means that the disk is stalling."""

# commits stay in the thread for this long after a slow one: a disk is rarely slow once only
AWAY_SECONDS = 10.0
# more rows would block the event loop for longer than a request may wait, on any disk
MAX_ROWS_ON_LOOP = 2_000

_THREAD_SECONDS_PER_ROW = 0.0005
"""Allowance for the thread: after each statement it may have to wait for the interpreter's lock."""
_DEFECT = "the rows were not written: unhandled exception, see the log"


@dataclass(slots=True)
class PendingRows:
    """Rows that will share a transaction, and the futures of their callers."""

    calls: list[CallRecord] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def settle(self, error: StoreError | None = None) -> None:
        """Resolve the futures; those that were cancelled are skipped."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                # each waiter gets its own: a shared exception would collect the tracebacks of all
                waiter.set_exception(StoreError(*error.args, fault=error.fault))


@final
class DiskSpeed:
    """Whether a write may be done on the event loop's thread: whether the disk has been fast lately."""

    def __init__(self, clock: Clock):
        self.now = clock.monotonic
        # slow until measured: the first commit is the thread's, so a slow disk never stalls the loop
        self._slow_at: float | None = float("-inf")
        """When the last slow write ended, None once the disk is known to be fast."""

    @property
    def is_fast(self) -> bool:
        """Whether the disk is known to be fast."""
        return self._slow_at is None

    def note_on_loop(self, began: float) -> None:
        """Take note of a write on the loop's thread that ends now."""
        ended = self.now()
        if ended - began > SLOW_COMMIT_SECONDS:
            self._slow_at = ended

    def note_in_thread(self, began: float, *, allowance: float) -> None:
        """Take note of a write in another thread that ends now; it may take `allowance` longer."""
        ended = self.now()
        if ended - began > SLOW_COMMIT_SECONDS + allowance:
            self._slow_at = ended
        elif self._slow_at is not None and ended - self._slow_at >= AWAY_SECONDS:
            self._slow_at = None


Write = Callable[[apsw.Connection, Sequence[CallRecord]], None]
"""Writes rows in one transaction; called on the loop's thread or on the writer's."""


@final
class GroupCommit:
    """Commits rows, and collects those that arrive while the writer's thread is committing."""

    def __init__(
        self, connection: apsw.Connection, writer: Worker, write: Write, *, clock: Clock, only_threaded: bool
    ):
        """Write through `connection` on the loop, which must not wait for locks, or through `writer`."""
        self._connection, self._writer, self._write = connection, writer, write
        self._only_threaded = only_threaded
        self.disk = DiskSpeed(clock)
        self._loop = asyncio.get_running_loop()
        self._waiting = PendingRows()
        self._handed_over: asyncio.Task[None] | None = None

    async def commit(self, calls: Sequence[CallRecord]) -> None:
        """Return when the rows are committed."""
        is_free = self._handed_over is None and self._belongs_on_loop(len(calls))
        # while the writer's thread commits, the file is locked: join its next transaction
        if is_free and self._commit_on_loop(calls):
            return
        waiter = self._loop.create_future()
        self._waiting.calls += calls
        self._waiting.waiters.append(waiter)
        if self._handed_over is None:
            self._hand_over()
        await waiter

    async def finish(self) -> None:
        """Commit what is waiting."""
        while self._handed_over is not None:
            await asyncio.wait([self._handed_over])

    def _belongs_on_loop(self, n_rows: int) -> bool:
        return not self._only_threaded and n_rows <= MAX_ROWS_ON_LOOP and self.disk.is_fast

    def _commit_on_loop(self, calls: Sequence[CallRecord]) -> bool:
        """Commit on the loop's thread; return False where the file is locked."""
        began = self.disk.now()
        try:
            with LOOP_IO:
                self._write(self._connection, calls)
        except apsw.BusyError:
            return False
        except FAILURES as failed:
            raise store_error(self._connection.filename, failed) from failed
        finally:
            self.disk.note_on_loop(began)
        return True

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting, PendingRows()
        self._handed_over = self._loop.create_task(self._commit_in_thread(batch))

    async def _commit_in_thread(self, batch: PendingRows) -> None:
        failed: StoreError | None = StoreError(_DEFECT)
        try:
            await self._writer.run(lambda connection: self._write_measured(connection, batch.calls))
            failed = None
        except StoreError as error:
            failed = error
            # rows that arrived meanwhile waited for the same lock: it will not open for them either
            self._waiting.settle(error)
            self._waiting = PendingRows()
        finally:
            self._handed_over = None
            batch.settle(failed)
            if self._waiting.waiters:
                self._commit_waiting()

    def _write_measured(self, connection: apsw.Connection, calls: Sequence[CallRecord]) -> None:
        """Write in the writer's thread, and note whether the disk is slow."""
        began = self.disk.now()
        self._write(connection, calls)
        if len(calls) <= MAX_ROWS_ON_LOOP:  # more take long on any disk
            self.disk.note_in_thread(began, allowance=len(calls) * _THREAD_SECONDS_PER_ROW)

    def _commit_waiting(self) -> None:
        """Commit what arrived while the writer's thread was committing."""
        if not self._belongs_on_loop(len(self._waiting.calls)):
            self._hand_over()
            return
        failed: StoreError | None = StoreError(_DEFECT)
        try:
            if not self._commit_on_loop(self._waiting.calls):
                self._hand_over()
            failed = None
        except StoreError as error:
            failed = error
        finally:  # also when an unhandled exception goes up to the loop: no caller may wait for ever
            done, self._waiting = self._waiting, PendingRows()
            done.settle(failed)


# pages since the last checkpoint, not of the WAL: a long reader may keep the WAL from being restarted
_CHECKPOINT_PAGES = 4_000
_RESTART_PAGES = 16_000  # 64 MB

_logger = logging.getLogger(__name__)


@final
class Checkpointer:
    """Writes the WAL back into the file."""

    def __init__(self, worker: Worker, require_in_place: Callable[[], None]):
        """Take a function that raises StoreError if the files are no longer those at their paths."""
        self._worker, self._require_in_place = worker, require_in_place
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._wal_pages = self._checkpointed_pages = 0
        self._is_closed = False

    def watch(self, connection: apsw.Connection) -> None:
        """Count the pages of every commit of `connection`, in whichever thread."""
        connection.set_wal_hook(self._committed)

    async def run(self) -> None:
        """Write back as much as readers allow."""
        await self._worker.run(self._checkpoint)

    async def truncate(self) -> None:
        """Write the whole WAL back and empty it, unless a reader needs it."""
        try:
            await self._worker.run(self._truncate)
        except StoreError as failed:
            _logger.warning("WAL not emptied: %s", failed)

    async def close(self, *, checkpoint: bool = True) -> None:
        """Finish the checkpoint that is running and start no other."""
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._worker.close(checkpoint=checkpoint)

    def _committed(self, connection: apsw.Connection, database: str, pages: int) -> int:
        if pages < self._wal_pages:  # the WAL was restarted
            self._checkpointed_pages = 0
        self._wal_pages = pages
        if pages - self._checkpointed_pages >= _CHECKPOINT_PAGES and self._task is None:
            # commits happen in the writer's thread, too
            self._loop.call_soon_threadsafe(self._start)
        return apsw.SQLITE_OK

    def _start(self) -> None:
        # asked again on the loop: several commits may have seen no task
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._in_background())

    async def _in_background(self) -> None:
        try:
            # before the checkpoint: pages that are committed meanwhile count for the next one
            self._checkpointed_pages = self._wal_pages
            await self.run()
        except StoreError as failed:  # the next commit meets the same fault and reports it
            _logger.warning("checkpoint failed: %s", failed)
        finally:
            self._task = None

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Write back without waiting for readers; restart a WAL that has grown beyond its bound."""
        self._require_in_place()  # a WAL that was removed may be older than what others have written since
        try:
            pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages > _RESTART_PAGES:
                # not TRUNCATE: giving 64 MB back to the disk holds writers up for 90 ms
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return  # another process is checkpointing, or a reader needs the WAL: next time

    def _truncate(self, connection: apsw.Connection) -> None:
        self._require_in_place()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
