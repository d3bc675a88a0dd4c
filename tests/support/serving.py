"""The application in this process: made with a store in memory, started, asked and stopped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.types import ASGIApp

from tamis.clock import Clock, SystemClock
from tamis.inference.classifier import Classifier
from tamis.service.app import Application, create_app
from tamis.settings import Settings
from tamis.storage import MemorySpool, ResilientStore, Store, make_store
from tests.support.fakes import keyword_classifier

PEER = ("192.0.2.7", 5000)


def make_app(
    settings: Settings | None = None,
    classifier: Classifier | None = None,
    *,
    store: Store | None = None,
    clock: Clock | None = None,
) -> Application:
    """Make an application; its store and its model are made up where the test gives none."""
    clock = clock or SystemClock()
    resilient = ResilientStore(store or make_store("memory:", clock), MemorySpool(), clock)
    return create_app(
        settings or Settings(), classifier or keyword_classifier(), store=resilient, clock=clock
    )


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[None]:
    """Enter the application's lifespan."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running = asyncio.create_task(app(scope, to_app.get, from_app.put))  # type: ignore[arg-type]
    to_app.put_nowait({"type": "lifespan.startup"})
    answer = await from_app.get()
    assert answer["type"] == "lifespan.startup.complete", answer
    try:
        yield
    finally:
        to_app.put_nowait({"type": "lifespan.shutdown"})
        await running


@asynccontextmanager
async def client_of(app: ASGIApp, *, peer: tuple[str, int] | None = PEER) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application, give a client that is seen at `peer`, and stop it again."""
    transport = httpx.ASGITransport(app, client=peer)  # type: ignore[arg-type]  # None: a Unix socket
    async with started(app), httpx.AsyncClient(transport=transport, base_url="http://tamis.test") as client:
        yield client


def without_ids(body: bytes) -> bytes:
    """Return a response's body without the predictions' ids, which are different each time."""
    return re.sub(rb'"id":"[0-9a-f-]{36}"', b'"id":""', body)
