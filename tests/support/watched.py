"""A store that counts the pages of its call log and can fail at one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tamis.errors import StoreError
from tamis.storage import CallLog, CallRecord, HourCount, LogQuery, Page, Store, StoreHealth
from tamis.storage.query import PAGE_ROWS


class WatchedLog(CallLog):
    """Passes everything on to `inner`."""

    def __init__(self, inner: CallLog, *, fails_at_page: int | None = None):
        self.inner, self.fails_at_page = inner, fails_at_page
        self.pages = 0

    async def read(
        self, query: LogQuery, *, after: str | None = None, limit: int = PAGE_ROWS
    ) -> Page[CallRecord]:
        self.pages += 1
        if self.pages == self.fails_at_page:
            raise StoreError("/secret/place: the disk failed")
        return await self.inner.read(query, after=after, limit=limit)

    async def find(self, id: bytes, *, caller: str | None = None) -> CallRecord | None:
        return await self.inner.find(id, caller=caller)

    async def append(self, calls: Sequence[CallRecord]) -> None:
        await self.inner.append(calls)

    async def summary(self, query: LogQuery) -> list[HourCount]:
        return await self.inner.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        return await self.inner.delete_before(moment)

    async def delete_caller(self, caller: str) -> int:
        return await self.inner.delete_caller(caller)


class WatchedStore(Store):
    """Passes everything on to `inner`, its log by way of a `WatchedLog`."""

    log: WatchedLog

    def __init__(self, inner: Store, *, fails_at_page: int | None = None):
        self.inner = inner
        self.log = WatchedLog(inner.log, fails_at_page=fails_at_page)
        self.cache, self.feedback = inner.cache, inner.feedback

    @property
    def pages(self) -> int:
        return self.log.pages

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def migrate(self) -> list[str]:
        return await self.inner.migrate()

    async def check(self) -> StoreHealth:
        return await self.inner.check()
