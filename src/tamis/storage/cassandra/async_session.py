"""An asynchronous session: the driver's callbacks as awaitables. Knows a session; knows no table.

The driver calls back in its own thread. `Session.execute_async` blocks when a connection's stream ids run
out, so the number of requests in flight is bounded; a request whose caller was cancelled counts until the
driver has its response. The driver's timers follow the wall clock: timeouts are asyncio's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from cassandra.cluster import ResponseFuture, ResultSet, Session

from tamis.errors import StoreError
from tamis.storage.cassandra.errors import describe, fault_of

IN_FLIGHT = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of a result; `state` leads to the next and is None at the end."""

    rows: list[tuple[Any, ...]]
    state: bytes | None


_Outcome = Rows | BaseException


@final
class AsyncSession:
    """Sends statements on one session; belongs to one event loop."""

    def __init__(self, session: Session, name: str, *, in_flight: int = IN_FLIGHT):
        self._session, self._name = session, name
        self._slots = asyncio.Semaphore(in_flight)
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[asyncio.Future[Rows], _Outcome]] = deque()
        self._is_woken = False

    async def execute(self, statement: Any, *, seconds: float, state: bytes | None = None) -> Rows:
        """Return the page of `statement` after `state`; StoreError if it fails or times out."""
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
                return await self._send(statement, state)
        except TimeoutError:
            message = f"{self._name}: timed out after {seconds:g} s"
            raise StoreError(message, fault="timeout") from None

    async def pages(self, statement: Any, *, seconds: float) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Yield the rows of `statement` a page at a time, each within `seconds`; a page may be short."""
        state = None
        while True:
            page = await self.execute(statement, seconds=seconds, state=state)
            if page.rows:
                yield page.rows
            state = page.state
            if state is None:
                return

    def _send(self, statement: Any, state: bytes | None) -> asyncio.Future[Rows]:
        response: asyncio.Future[Rows] = self._loop.create_future()
        sent = self._session.execute_async(statement, paging_state=state)
        sent.add_callbacks(
            self._succeeded, self._failed, callback_args=(sent, response), errback_args=(response,)
        )
        return response

    def _succeeded(self, rows: Any, sent: ResponseFuture, response: asyncio.Future[Rows]) -> None:
        state = ResultSet(sent, rows).paging_state
        self._hand_over(response, Rows(rows or [], state))

    def _failed(self, error: BaseException, response: asyncio.Future[Rows]) -> None:
        self._hand_over(response, error)

    def _hand_over(self, response: asyncio.Future[Rows], outcome: _Outcome) -> None:
        """Pass an outcome to the loop, from any thread; one wake-up handles all that have arrived."""
        self._arrived.append((response, outcome))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop is closed: there is no caller left
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._is_woken = False  # first, so that a response that arrives meanwhile wakes the loop again
        while self._arrived:
            response, outcome = self._arrived.popleft()
            self._slots.release()
            if response.done():
                continue
            if isinstance(outcome, Rows):
                response.set_result(outcome)
            else:
                failed = StoreError(f"{self._name}: {describe(outcome)}", fault=fault_of(outcome))
                failed.__cause__ = outcome
                response.set_exception(failed)
