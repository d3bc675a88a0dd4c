"""A store that goes on when its database does not. Knows any store and any spool by their promises."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import final

from tamis.clock import Clock
from tamis.errors import STORE_FAULTS, StoreError
from tamis.storage.base import (
    NO_ANSWERS,
    PAGE_ROWS,
    Answers,
    CallQuery,
    Health,
    HourCount,
    Page,
    Scores,
    Store,
    check_calls,
)
from tamis.storage.keys import KEY_BYTES
from tamis.storage.spool import Spool
from tamis.types import CallRecord

RETRY_SECONDS = 1.0
_DRAIN_ROWS = 500

COUNTED = ("accepted", "written", "spooled", "dropped", "degraded", *STORE_FAULTS)
"""What a ResilientStore counts, in this order: calls, 1 while it is degraded, failures by fault."""

_ACCEPTED, _WRITTEN, _SPOOLED, _DROPPED, _DEGRADED, _FIRST_FAULT = range(6)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counters:
    """Where the calls are; `accepted == written + spooled + dropped` at every moment.

    A call is accepted when it is known which of the three it is. `spooled` goes down as calls
    arrive at their store.
    """

    accepted: int = 0
    written: int = 0
    spooled: int = 0
    dropped: int = 0


@final
class ResilientStore(Store):
    """Passes everything on to `inner`; while that fails, calls wait in `spool` and the cache is empty.

    Only `open` and what reads or deletes the log raise `StoreError`; `append` and `get_many`, which
    predictions need, do not. It reconnects by itself, at once and then every `retry_seconds`, and
    sends what waited. A call whose sending was interrupted is sent again: its id keeps it single.
    """

    def __init__(
        self,
        inner: Store,
        spool: Spool,
        clock: Clock,
        *,
        retry_seconds: float = RETRY_SECONDS,
        may_start_without: bool = False,
    ):
        self._inner, self._spool, self._clock = inner, spool, clock
        self._retry_seconds, self._may_start_without = retry_seconds, may_start_without
        self._numbers: list[float] | memoryview[float] = [0.0] * len(COUNTED)
        self._fault: str | None = None
        self._secret = os.urandom(KEY_BYTES)  # until the store's own is known
        self._healing: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[bool] | None = None
        self._putting: set[asyncio.Task[None]] = set()
        self._has_work, self._is_healthy = asyncio.Event(), asyncio.Event()
        self.lost_rows = 0
        """Calls that waited in memory when the store was closed, and are in no log."""

    @property
    def counters(self) -> Counters:
        """Where the calls are now."""
        numbers = self._numbers
        return Counters(
            int(numbers[_ACCEPTED]), int(numbers[_WRITTEN]), len(self._spool), int(numbers[_DROPPED])
        )

    def count_in(self, numbers: list[float] | memoryview[float]) -> None:
        """Count in `numbers`, in the order of `COUNTED`, on top of what stands there; call it before `open`.

        There others can see them, and the next process finds them.
        """
        self._numbers = numbers

    @property
    def fault(self) -> str | None:
        """What is wrong with the store, None when nothing is; calls may still wait to be sent."""
        return self._fault

    @property
    def is_degraded(self) -> bool:
        """Whether the store fails, or calls wait for it."""
        return self._fault is not None or len(self._spool) > 0

    async def wait_healthy(self) -> None:
        """Return as soon as the store works and nothing waits for it."""
        while self.is_degraded:
            self._is_healthy.clear()
            await self._is_healthy.wait()

    async def open(self) -> None:
        """Open the spool and the store, and begin to watch over both."""
        await self.close()
        await self._spool.open()
        self._count_found()
        try:
            await self._open_inner()
        except StoreError as failed:
            if not self._may_start_without:
                await self._spool.close()
                raise
            self._failed(failed)
        if self.is_degraded:
            self._has_work.set()
        self._healing = asyncio.create_task(self._heal())

    async def close(self) -> None:
        """Send what waits if the store works; what stays in a spool without a file is lost."""
        if self._healing is None:
            return
        self._healing.cancel()
        with suppress(asyncio.CancelledError):
            await self._healing
        self._healing = None
        if unfinished := {*self._putting, *filter(None, [self._sending])}:
            await asyncio.wait(unfinished)
        if len(self._spool) > 0:
            await self._try_to_send()
        if len(self._spool) > 0:
            await self._leave_waiting()
        await self._inner.close()
        await self._spool.close()

    async def _leave_waiting(self) -> None:
        """Leave calls in the spool's file for the next process; count them as lost if there is none."""
        waiting, path = len(self._spool), self._spool.path
        if path is not None:
            _logger.warning("%d rows of the call log wait in %s: %s", waiting, path, self._fault)
            return
        await self._spool.remove(await self._spool.oldest(waiting))
        self.lost_rows += waiting
        self._numbers[_DROPPED] += waiting
        self._note_state()
        _logger.error("%d rows of the call log are lost; they waited in memory: %s", waiting, self._fault)

    async def migrate(self) -> None:
        """Migrate the store."""
        await self._inner.migrate()

    async def check(self) -> Health:
        """Check the store, not the spool."""
        return await self._inner.check()

    @property
    def secret(self) -> bytes:
        """The store's key; one of our own as long as the store has never been reached."""
        return self._secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what the store remembers; nothing while it fails."""
        if self._fault is None:
            try:
                return await self._inner.get_many(keys)
            except StoreError as failed:
                self._failed(failed)
        return [None] * len(keys)

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Write the calls, or put them where they wait, or count them as dropped."""
        if self._fault is None:
            try:
                await self._inner.append(calls, answers)
            except StoreError as failed:
                self._failed(failed)
            except asyncio.CancelledError:
                # nobody knows whether they were written: sending them again is harmless
                self._start_putting(calls)
                raise
            else:
                self._numbers[_ACCEPTED] += len(calls)
                self._numbers[_WRITTEN] += len(calls)
                return
        check_calls(calls)
        await asyncio.shield(self._start_putting(calls))

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Read the store's log; calls that wait are not in it yet."""
        return await self._inner.calls(query, after=after, limit=limit)

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count the store's log; calls that wait are not in it yet."""
        return await self._inner.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        """Delete from the store's log; old calls that wait are deleted the next time."""
        return await self._inner.delete_before(moment)

    async def delete_caller(self, caller: str) -> int:
        """Delete from the store's log, once nothing waits that would bring a caller's rows back."""
        if len(self._spool) > 0:
            raise StoreError(f"{len(self._spool)} calls still wait to be written; delete when they have been")
        return await self._inner.delete_caller(caller)

    async def _open_inner(self) -> None:
        await self._inner.open()
        self._secret = self._inner.secret

    def _failed(self, error: StoreError) -> None:
        if self._fault is None:
            _logger.error("the store fails, predictions go on: %s", error)
        self._fault = str(error)
        self._numbers[_FIRST_FAULT + STORE_FAULTS.index(error.fault)] += 1
        self._note_state()
        self._has_work.set()

    def _count_found(self) -> None:
        """Accept what an earlier process left in the spool, and count as dropped what it left nowhere."""
        numbers, found = self._numbers, len(self._spool)
        lost = numbers[_ACCEPTED] - numbers[_WRITTEN] - numbers[_DROPPED] - found
        numbers[_DROPPED] += max(0.0, lost)
        numbers[_ACCEPTED] = numbers[_WRITTEN] + numbers[_DROPPED] + found
        self._note_state()

    def _note_state(self) -> None:
        self._numbers[_SPOOLED] = len(self._spool)
        self._numbers[_DEGRADED] = self.is_degraded

    def _start_putting(self, calls: Sequence[CallRecord]) -> asyncio.Task[None]:
        """Put calls into the spool in a task of its own, that no caller's leaving interrupts."""
        task = asyncio.create_task(self._put(calls))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)
        return task

    async def _put(self, calls: Sequence[CallRecord]) -> None:
        try:
            taken = await self._spool.put(calls)
        except StoreError as failed:
            _logger.error("the spool fails: %s", failed)
            taken = 0
        self._numbers[_ACCEPTED] += len(calls)
        self._numbers[_DROPPED] += len(calls) - taken
        self._note_state()
        self._has_work.set()

    async def _heal(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while not await self._send_undisturbed():
                await self._clock.sleep(self._retry_seconds)

    async def _send_undisturbed(self) -> bool:
        """Let a sending that has begun come to its end, or the counters would not tell where calls are."""
        self._sending = asyncio.create_task(self._try_to_send())
        return await asyncio.shield(self._sending)

    async def _try_to_send(self) -> bool:
        """Reconnect if need be and send what waits; return whether all is well."""
        try:
            if self._fault is not None:
                await self._open_inner()
                await self._inner.check()
            all_sent = await self._send_some()
            if self._fault is not None:  # only now, when calls can be written, are more let through
                self._fault = None
                self._note_state()
                _logger.info("the store works again; %d calls still wait", len(self._spool))
            while all_sent and len(self._spool) > 0:
                all_sent = await self._send_some()
        except StoreError as failed:
            self._failed(failed)
            return False
        if all_sent:
            self._is_healthy.set()
        return all_sent

    async def _send_some(self) -> bool:
        """Send the calls that have waited longest; return whether the spool allowed it."""
        if len(self._spool) == 0:
            return True
        try:
            calls = await self._spool.oldest(_DRAIN_ROWS)
        except StoreError as failed:
            _logger.error("the spool cannot be read: %s", failed)
            return False
        await self._inner.append(calls)
        try:
            await self._spool.remove(calls)
        except StoreError as failed:  # they will be sent once more, which is harmless
            _logger.error("the spool cannot be emptied: %s", failed)
            return False
        self._numbers[_WRITTEN] += len(calls)
        self._note_state()
        return True
