"""The call log's routes in an application of their own, over a store that a test fills."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from msgspec import structs
from starlette.types import Scope

from tamis.events import Events
from tamis.service.api.log import add_log_routes
from tamis.service.api.route import ApiContext, RequestLimits
from tamis.service.app import Application
from tamis.service.call_log.readers import LogReaders
from tamis.service.security.client_identity import Access, Caller, ClientIdentifier
from tamis.storage import CallRecord, Store, StoreOptions, TimeIds, make_store
from tests.support.fakes import ManualClock

NOON = 1_795_262_400_000_000_000
"""2026-11-21, 12:00 UTC, in nanoseconds since 1970."""
MODEL = "3f2a" * 16


class CallersByHeader(ClientIdentifier):
    """Believes whatever the header `x-caller` says; the caller called root is an administrator."""

    def identify(self, scope: Scope, access: Access) -> Caller:
        name = dict(scope["headers"]).get(b"x-caller", b"alice").decode()
        return Caller(name, limited_as=name, is_admin=name == "root")


class Log:
    """A store, its clock, and the routes on both."""

    def __init__(self, store: Store, clock: ManualClock):
        self.store, self.clock = store, clock
        self.ids = TimeIds(clock)
        events = Events()
        context = ApiContext(
            CallersByHeader(),
            RequestLimits(1_000, 1_000, 10),
            requires_keys=False,
            is_rate_limited=False,
            events=events,
        )
        self.app = Application("log", context)
        add_log_routes(self.app.router, store.log, self.ids.this_hour, LogReaders(events))

    async def call(self, text: str, caller: str = "alice", **changes: Any) -> CallRecord:
        """Log a call at this moment of the clock."""
        record = CallRecord(self.ids.next(), caller, text, "ham", 0.75, MODEL, False)
        record = structs.replace(record, **changes)
        await self.store.log.append([record])
        return record

    async def get(self, url: str, caller: str = "alice", **parts: Any) -> httpx.Response:
        headers = {"x-caller": caller, **parts.pop("headers", {})}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://tamis.test") as http:
            return await http.get(url, headers=headers, **parts)


def with_log(url: str, test: Callable[[Log], Awaitable[None]]) -> None:
    """Run a test with an open store at `url`; one that hangs fails."""

    async def run() -> None:
        clock = ManualClock(NOON)
        store = make_store(url, clock, StoreOptions())
        await store.open()
        try:
            async with asyncio.timeout(50):
                await test(Log(store, clock))
        finally:
            await store.close()

    asyncio.run(run())
