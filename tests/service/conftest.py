"""The application in this process, asked without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tamis.settings import Settings
from tests.support.serving import PEER, make_app, started

SMALL = Settings(max_body_bytes=2_000, max_text_chars=100, max_texts=5)
"""Limits that a test can reach."""


@pytest.fixture(scope="session")
def app() -> ASGIApp:
    return make_app(SMALL)


@pytest.fixture(scope="session")
def ask(app: ASGIApp) -> Iterator[Callable[..., httpx.Response]]:
    """Send one request, as `httpx.request` does, and return the whole response."""

    async def send(method: str, url: str, **parts: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=PEER)
        async with httpx.AsyncClient(transport=transport, base_url="http://tamis.test") as client:
            return await client.request(method, url, **parts)

    with asyncio.Runner() as runner:
        lifespan = started(app)
        runner.run(lifespan.__aenter__())
        yield lambda method, url, **parts: runner.run(send(method, url, **parts))
        runner.run(lifespan.__aexit__(None, None, None))
