"""Calls, answers and helpers that the storage tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from msgspec import structs

from tamis.storage import CallRecord, LogQuery, Store, TimeIds, pages
from tests.support.fakes import ManualClock

LABELS = ("ham", "spam")
MODEL = "3f2a" * 16
SCORES = {"ham": 0.1 + 0.2, "spam": 1 - (0.1 + 0.2)}
HOSTILE_TEXTS = ("a\0b", "\0", "\n", "", "😀 and é", "'; DROP TABLE calls; --", "x" * 2**20, "﻿", "\x7f\x80")


def call(ids: TimeIds, text: str = "hello", **changes: object) -> CallRecord:
    record = CallRecord(ids.next(), "10.0.0.1", text, "ham", 0.97, MODEL, False)
    return structs.replace(record, **changes)


def calls(ids: TimeIds, count: int, **changes: object) -> list[CallRecord]:
    return [call(ids, f"text {i}", **changes) for i in range(count)]


async def everything(store: Store, query: LogQuery | None = None, *, limit: int = 100) -> list[CallRecord]:
    return [one async for page in pages(store.log, query or LogQuery(), limit=limit) for one in page]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def digest(number: int) -> bytes:
    """Return a key as a cache makes them: its bytes are spread."""
    return blake2b(str(number).encode(), digest_size=32).digest()


def hour(clock: ManualClock) -> datetime:
    now = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
    return now.replace(minute=0, second=0, microsecond=0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test; one that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def database(folder: Path) -> Path:
    return folder / "tamis.db"
