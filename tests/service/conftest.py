"""The application in this process, asked without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tamis.service.app import create_app
from tamis.settings import Settings
from tests.fakes import keyword_classifier

SMALL = Settings(max_body_bytes=2_000, max_text_chars=100, max_texts=5)
"""Limits that a test can reach."""


@pytest.fixture(scope="session")
def app() -> ASGIApp:
    return create_app(SMALL, keyword_classifier())


@pytest.fixture(scope="session")
def ask(app: ASGIApp) -> Callable[..., httpx.Response]:
    """Send one request, as `httpx.request` does, and return the whole response."""

    async def send(method: str, url: str, **parts: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://tamis.test") as client:
            return await client.request(method, url, **parts)

    return lambda method, url, **parts: asyncio.run(send(method, url, **parts))
