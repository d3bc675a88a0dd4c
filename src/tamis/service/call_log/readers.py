"""Limits on reading the call log: concurrent reads, the time of a search, disconnected clients.

A streamed log keeps one page in memory until the client has received it, and a search keeps the store busy:
without limits, clients that do not read and abandoned searches would exhaust both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, final

from starlette.types import Receive

from tamis.errors import InputError
from tamis.events import Events, LogPageRead, LogReadFinished, LogReadStarted
from tamis.service.responses import Refused

MAX_READS = 64
"""Per process. Each read holds one page (`PAGE_CHARS`) as rows, as bytes and in the socket's buffer."""
# so that one caller cannot use up the limit of the process
MAX_READS_PER_CALLER = 8
SEARCH_SECONDS = 10.0
"""A search that takes longer is cancelled: it would block the store for the reads after it."""

Result = TypeVar("Result")


class Abandoned(InputError):
    """The client closed the connection before its search had ended."""

    def __init__(self) -> None:
        super().__init__("search_abandoned", "the client closed the connection", field="log")


@final
class LogReaders:
    """Counts the reads of the log in progress in this process."""

    def __init__(self, events: Events):
        # one lock for all reads: pages are encoded one after the other, with predictions in between
        self.emit, self.encoding = events.emit, asyncio.Lock()
        self._reads: Counter[str] = Counter()

    def begin(self, caller: str) -> LogRead:
        """Begin a read, or refuse it with 429 or 503 if too many are in progress."""
        retry = [(b"retry-after", b"1")]
        # 429 for a caller's own reads, 503 for everyone's: only the first is the caller's fault
        if self._reads[caller] >= MAX_READS_PER_CALLER:
            message = f"more than {MAX_READS_PER_CALLER} reads of the log by one caller at once; try again"
            raise Refused("too_many_reads", message, field="log", headers=retry)
        if self._reads.total() >= MAX_READS:
            raise Refused("log_busy", "the log is being read by many; try again", field="log", headers=retry)
        self._reads[caller] += 1
        self.emit(LogReadStarted())
        return LogRead(self, caller)

    def end(self, caller: str) -> None:
        """End a read; `LogRead.end` calls."""
        self.emit(LogReadFinished())
        self._reads[caller] -= 1
        if not self._reads[caller]:  # a Counter keeps zeros: every caller ever seen would stay in memory
            del self._reads[caller]


@final
class LogRead:
    """One read of the log in progress."""

    def __init__(self, readers: LogReaders, caller: str):
        self._readers, self._caller, self._is_open = readers, caller, True
        self.encoding = readers.encoding

    def add(self, rows: int, size: int) -> None:
        """Count rows that were read and bytes that were sent."""
        self._readers.emit(LogPageRead(rows, size))

    def end(self) -> None:
        """End the read; ending it again has no effect."""
        if self._is_open:
            self._is_open = False
            self._readers.end(self._caller)


async def unless_abandoned(
    search: Coroutine[Any, Any, Result], receive: Receive, *, seconds: float | None = None
) -> Result:
    """Return the result of a search; cancel it if its client disconnects (Abandoned) or after `seconds`.

    Raises InputError `search_too_long`; by default there is no limit.
    """
    async with disconnecting(receive) as disconnected:
        return await unless_disconnected(search, disconnected, seconds=seconds)


async def unless_disconnected(
    search: Coroutine[Any, Any, Result], disconnected: asyncio.Future[None], *, seconds: float | None = None
) -> Result:
    """Do the same as `unless_abandoned` with an existing future of `disconnecting`."""
    searching = asyncio.ensure_future(search)
    try:
        either: set[asyncio.Future[Any]] = {searching, disconnected}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if searching.done():
            return searching.result()
        if disconnected.done():
            raise Abandoned
        message = f"the search took longer than {seconds:.0f} s; narrow it by `since` and `until`"
        raise InputError("search_too_long", message, field="since")
    finally:
        searching.cancel()  # also if this task is cancelled; without effect on a finished search


@asynccontextmanager
async def disconnecting(receive: Receive) -> AsyncIterator[asyncio.Future[None]]:
    """Yield a future that is done when the client has closed the connection."""
    disconnected = asyncio.ensure_future(_disconnected(receive))
    try:
        yield disconnected
    finally:
        disconnected.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a part of the body, which these routes do not read
