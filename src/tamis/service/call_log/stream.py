"""Logged calls on their way to a reader, fetched a page at a time.

`send` returns when the connection can take more: a slow reader keeps one page in memory, and
nothing of the store, between two pages. Knows a call log and a format; knows no route.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tamis.service.call_log.formats import LogFormat
from tamis.service.call_log.readers import Abandoned, LogRead, disconnecting, unless_abandoned, unless_left
from tamis.storage import LogQuery, Page
from tamis.storage.query import Readable

PAGE_ROWS = 100
"""Few, because every slow reader keeps a page."""


class LogStream(Response):
    """The response with the rows of `query`, at most `limit` of them, in a format.

    A format that is whole goes on to the end. Another ends with a cursor if a search found fewer rows than it
    was asked for, so that no client waits long for an empty page.
    """

    def __init__(
        self,
        log: Readable[Any],
        query: LogQuery,
        format: LogFormat,
        *,
        read: LogRead,
        limit: int | None = None,
    ):
        self._log, self._query, self._format, self._read = log, query, format, read
        self._left = limit
        self.status_code, self.background = 200, None
        self.raw_headers = [
            (b"content-type", format.media_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-accel-buffering", b"no"),  # nginx: pass it on as it comes
        ]
        self._first: Page[Any] | None = None

    async def started(self, receive: Receive, cursor: str | None = None) -> Self:
        """Fetch the first page, so that a store that fails is reported by a status."""
        try:
            self._first = await unless_abandoned(self._page(cursor), receive)
        except BaseException:
            self._read.end()
            raise
        return self

    async def _chunks(self, leaving: asyncio.Future[None]) -> AsyncIterator[bytes]:
        """Yield the document in parts; an empty one says that the search goes on."""
        page, self._first = self._first, None
        assert page is not None, "await started() comes first"
        yield self._format.head + await self._rows(page)
        while page.cursor is not None and self._left != 0 and (self._format.is_whole or page.rows):
            page = await unless_left(self._page(page.cursor), leaving)
            yield await self._rows(page)
        yield self._format.tail(page.cursor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until all is sent or the reader has left.

        When the store fails in the middle the error is passed on: the server then breaks the connection
        before its proper end, which no client takes for a whole answer.
        """
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_chunks(receive, send)
            await send({"type": "http.response.body"})
        finally:
            self._read.end()

    async def _send_chunks(self, receive: Receive, send: Send) -> None:
        with suppress(Abandoned):
            async with disconnecting(receive) as leaving:
                async for chunk in self._chunks(leaving):
                    if leaving.done():
                        return
                    if chunk:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        self._read.add(0, len(chunk))

    async def _rows(self, page: Page[Any]) -> bytes:
        """Encode a page; only one in each turn of the event loop, or predictions would wait for many."""
        async with self._read.encoding:
            await asyncio.sleep(0)
            return self._format.rows(page.rows)

    async def _page(self, cursor: str | None) -> Page[Any]:
        rows = PAGE_ROWS if self._left is None else min(PAGE_ROWS, self._left)
        page = await self._log.read(self._query, after=cursor, limit=rows)
        self._read.add(len(page.rows), 0)
        if self._left is not None:
            self._left -= len(page.rows)
        return page
