"""An asynchronous session: the driver's callbacks as awaitables, its errors as one line and a fault.

    execute ─► a slot ─► execute_async ─► the driver's thread: _hand_over ─► the loop: _settle ─► future

The driver calls back in its own thread. `Session.execute_async` blocks when a connection's stream ids run
out, so the number of requests in flight is bounded; a request whose caller was cancelled counts until the
driver has its response. The driver's timers follow the wall clock: timeouts are asyncio's. Independent of
tables.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from cassandra import (
    AuthenticationFailed,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable, ResponseFuture, ResultSet, Session
from cassandra.connection import ConnectionException
from cassandra.protocol import OverloadedErrorMessage

from tamis.errors import StoreError

_DESCRIPTIONS: dict[type[BaseException], str] = {
    AuthenticationFailed: "wrong user or password",
    Unauthorized: "permission denied",
    OverloadedErrorMessage: "the cluster is overloaded",
    OperationTimedOut: "timed out",
    WriteTimeout: "too few replicas acknowledged a write in time",
    ReadTimeout: "too few replicas answered in time",
}

_FAULTS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((Unavailable,), "unavailable"),
    ((OverloadedErrorMessage,), "overloaded"),
    ((OperationTimedOut, WriteTimeout, ReadTimeout), "timeout"),
)
_NO_CONNECTION = (NoHostAvailable, UnresolvableContactPoints, ConnectionException, OSError)


def describe(error: BaseException) -> str:
    """Return the cause, in one line without line breaks."""
    if isinstance(error, NoHostAvailable):
        return _of_hosts(error.errors)
    if isinstance(error, Unavailable):
        return f"too few replicas are up: {error.alive_replicas} of the {error.required_replicas} needed"
    for kind, text in _DESCRIPTIONS.items():
        if isinstance(error, kind):
            return text
    message = getattr(error, "message", None) if isinstance(error, InvalidRequest) else None
    # the driver's messages may have several lines and any length
    return re.sub(r"\s+", " ", f"{type(error).__name__}: {message or error}")[:300]


def fault_of(error: BaseException) -> str:
    """Return which of `STORE_FAULTS` an error is; of several hosts' errors the first that is known."""
    hosts = error.errors if isinstance(error, NoHostAvailable) else None
    for cause in hosts.values() if isinstance(hosts, dict) else [error]:
        for kinds, fault in _FAULTS:
            if isinstance(cause, kinds):
                return fault
    return "unavailable" if isinstance(error, _NO_CONNECTION) else "other"


def _of_hosts(errors: object) -> str:
    if not isinstance(errors, dict) or not errors:
        return "no host can be reached"
    messages = {describe(error) for error in errors.values() if isinstance(error, BaseException)}
    hosts = ", ".join(sorted(str(getattr(host, "address", host)) for host in errors))
    return f"all hosts failed ({hosts}): {'; '.join(sorted(messages))}"


# far below the stream ids of a connection, so the driver never blocks the loop
_IN_FLIGHT = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of a result; `state` leads to the next and is None at the end."""

    rows: list[tuple[Any, ...]]
    state: bytes | None


_Outcome = Rows | BaseException


@final
class AsyncSession:
    """Sends statements on one session; belongs to one event loop."""

    def __init__(self, session: Session, name: str):
        self._session, self._name = session, name
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
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
            self._succeeded, self._hand_over, callback_args=(sent, response), errback_args=(response,)
        )
        return response

    def _succeeded(self, rows: Any, sent: ResponseFuture, response: asyncio.Future[Rows]) -> None:
        state = ResultSet(sent, rows).paging_state
        self._hand_over(Rows(rows or [], state), response)

    def _hand_over(self, outcome: _Outcome, response: asyncio.Future[Rows]) -> None:
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
            # here and not by the caller: one that was cancelled no longer waits, but its request is in flight
            self._slots.release()
            if response.done():
                continue
            if isinstance(outcome, Rows):
                response.set_result(outcome)
            else:
                failed = StoreError(f"{self._name}: {describe(outcome)}", fault=fault_of(outcome))
                # `__cause__` separates errors of the cluster from timeouts of `execute`, which have none
                failed.__cause__ = outcome
                response.set_exception(failed)
