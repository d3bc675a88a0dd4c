"""A store that counts the pages it gives and can fail at one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tamis.errors import StoreError
from tamis.storage import Answers, CallQuery, Health, HourCount, Page, Scores, Store
from tamis.storage.base import NO_ANSWERS, PAGE_ROWS
from tamis.types import CallRecord


class WatchedStore(Store):
    """Passes everything on to `inner`."""

    def __init__(self, inner: Store, *, fails_at_page: int | None = None):
        self.inner = inner
        self.pages = 0
        self.fails_at_page = fails_at_page

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        self.pages += 1
        if self.pages == self.fails_at_page:
            raise StoreError("/secret/place: the disk failed")
        return await self.inner.calls(query, after=after, limit=limit)

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def migrate(self) -> None:
        await self.inner.migrate()

    async def check(self) -> Health:
        return await self.inner.check()

    @property
    def secret(self) -> bytes:
        return self.inner.secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        return await self.inner.get_many(keys)

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        await self.inner.append(calls, answers)

    async def summary(self, query: CallQuery) -> list[HourCount]:
        return await self.inner.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        return await self.inner.delete_before(moment)

    async def delete_caller(self, caller: str) -> int:
        return await self.inner.delete_caller(caller)
