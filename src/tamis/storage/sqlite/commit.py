"""Group commit: one transaction for everything that arrived together. Knows no SQL.

What arrives within one turn of the event loop is committed at its end, on the loop's own thread:
with WAL and `synchronous=NORMAL` a commit waits for no disk, and handing it to another thread costs
more than doing it. The loop never waits for a lock, though: a file that is locked, was slow lately,
or is to be written through to the disk is left to the writer's thread, and what arrives meanwhile
forms the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import apsw

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.records import CallRecord
from tamis.storage.base import Answers
from tamis.storage.sqlite.connection import Worker, translated

SLOW_COMMIT_SECONDS = 0.05
"""A commit on the loop that takes longer says that the disk is stalling."""

_AWAY_SECONDS = 10.0
_MOST_ROWS_ON_LOOP = 2_000


@dataclass(slots=True)
class Batch:
    """Rows that share a transaction, and the futures of those who wait for it."""

    calls: list[CallRecord] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def settle(self, error: StoreError | None = None) -> None:
        """Tell everybody who still waits; who was cancelled has left, and disturbs nobody."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(StoreError(*error.args))


Write = Callable[[apsw.Connection, Sequence[CallRecord], Sequence[Answers]], None]
"""Writes rows in one transaction; called on the loop's thread or on the writer's."""


@final
class GroupCommit:
    """Collects appends and commits them, a batch at a time."""

    def __init__(
        self, connection: apsw.Connection, writer: Worker, write: Write, *, clock: Clock, only_threaded: bool
    ):
        """Write through `connection` on the loop, which must not wait for locks, or through `writer`."""
        self._connection, self._writer, self._write = connection, writer, write
        self._clock, self._only_threaded = clock, only_threaded
        self._loop = asyncio.get_running_loop()
        self._waiting = Batch()
        self._turn_is_planned = False
        self._handed_over: asyncio.Task[None] | None = None
        self._away_until = float("-inf")

    def submit(self, calls: Sequence[CallRecord], answers: Answers) -> asyncio.Future[None]:
        """Return a future that is done when the rows are committed."""
        waiter = self._loop.create_future()
        batch = self._waiting
        batch.calls += calls
        if answers:
            batch.answers.append(answers)
        batch.waiters.append(waiter)
        if not self._turn_is_planned and self._handed_over is None:
            self._turn_is_planned = True
            self._loop.call_soon(self._turn)
        return waiter

    async def finish(self) -> None:
        """Commit what is waiting."""
        while self._handed_over is not None or self._waiting.waiters:
            if self._handed_over is not None:
                await asyncio.wait([self._handed_over])
            else:
                self._turn()

    def _turn(self) -> None:
        self._turn_is_planned = False
        if not self._waiting.waiters or self._handed_over is not None:
            return
        batch, self._waiting = self._waiting, Batch()
        if self._belongs_on_loop(batch):
            self._commit_here(batch)
        else:
            self._hand_over(batch)

    def _belongs_on_loop(self, batch: Batch) -> bool:
        return (
            not self._only_threaded
            and len(batch.calls) <= _MOST_ROWS_ON_LOOP
            and self._clock.monotonic() >= self._away_until
        )

    def _commit_here(self, batch: Batch) -> None:
        started = self._clock.monotonic()
        failed: StoreError | None = StoreError("the rows could not be written: a fault of Tamis, see the log")
        try:
            with translated(self._connection.filename):
                self._write(self._connection, batch.calls, batch.answers)
            failed = None
        except StoreError as error:
            failed = error
            if isinstance(error.__cause__, apsw.BusyError):
                self._hand_over(batch)
                return
        finally:  # also when something unforeseen goes up to the loop: nobody may wait for ever
            if self._handed_over is None:
                batch.settle(failed)
        ended = self._clock.monotonic()
        if ended - started > SLOW_COMMIT_SECONDS:
            self._away_until = ended + _AWAY_SECONDS

    def _hand_over(self, batch: Batch) -> None:
        self._handed_over = self._loop.create_task(self._commit_there(batch))

    async def _commit_there(self, batch: Batch) -> None:
        failed: StoreError | None = StoreError("the rows could not be written: a fault of Tamis, see the log")
        try:
            await self._writer.run(lambda connection: self._write(connection, batch.calls, batch.answers))
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
                self._turn_is_planned = True
                self._loop.call_soon(self._turn)
