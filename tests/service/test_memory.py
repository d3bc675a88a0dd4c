"""Memory stays flat, whatever number of requests, of different texts and of different callers has passed."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.storage import CallRecord, TimeIds
from tamis.storage.sqlite import SqliteStore
from tests.support.loads import request
from tests.support.process_stats import private_mb
from tests.support.processes import read_answer, serving

WARM_UP_TEXTS = 20_000
CONNECTIONS = 8
GROWTH_MB = 8.0

_SETTINGS = {
    "TAMIS_CACHE_MEMORY_ROWS": "1000",
    "TAMIS_DRAIN_SECONDS": "0",
    "TAMIS_TRUSTED_PROXIES": "127.0.0.1",
    "TAMIS_RATE_PER_MINUTE": "60",
}
"""Every caller is counted, and what is kept of answers is soon full."""


@pytest.mark.parametrize(
    ("requests", "texts_each"),
    [
        pytest.param(2_000, 25, id="50,000 texts of 2,000 callers"),
        pytest.param(1_000_000, 1, id="1,000,000 requests and callers", marks=pytest.mark.soak),
    ],
)
async def test_memory_is_flat_after_warm_up(tmp_path: Path, requests: int, texts_each: int) -> None:
    with serving(
        tmp_path, "--mock", "--store", "sqlite:///tamis.db", is_program=True, **_SETTINGS
    ) as service:
        await _ask(service.port, "warm up", WARM_UP_TEXTS // 25, texts_each=25)
        before = private_mb(service.process.pid)
        await _ask(service.port, "load", requests, texts_each=texts_each)
        after = private_mb(service.process.pid)
    print(  # noqa: T201 - the figures of `make soak`
        f"{requests:,} requests of {texts_each}, each of another caller: "
        f"{before:.1f} MB before, {after:.1f} MB after"
    )
    assert after - before < GROWTH_MB


@pytest.mark.parametrize(
    "rows", [50_000, pytest.param(1_000_000, id="1,000,000 rows", marks=pytest.mark.soak)]
)
async def test_memory_is_flat_while_a_long_log_is_read(tmp_path: Path, rows: int) -> None:
    hour = datetime.now(UTC).hour
    await _fill(tmp_path / "tamis.db", rows)
    with (
        serving(
            tmp_path, "--mock", "--store", "sqlite:///tamis.db", is_program=True, TAMIS_DRAIN_SECONDS="0"
        ) as service,
        httpx.Client(base_url=service.address, timeout=60) as client,
    ):
        client.get("/log?limit=1000").raise_for_status()
        before, last, began = private_mb(service.process.pid), b"", time.monotonic()
        with client.stream("GET", "/recent_log") as response:
            most = before
            for number, piece in enumerate(response.iter_raw()):
                last = (last + piece)[-200:]
                most = most if number % 100 else max(most, private_mb(service.process.pid))
        seconds = time.monotonic() - began
    if datetime.now(UTC).hour != hour:
        pytest.skip("the hour has turned meanwhile: /recent_log begins anew")
    print(  # noqa: T201 - the figures of `make soak`
        f"/recent_log of {rows:,} rows in {seconds:.1f} s: {before:.1f} MB before, {most:.1f} MB at most"
    )
    assert b'{"index":%d,' % (rows - 1) in last
    assert most - before < GROWTH_MB


async def _fill(path: Path, rows: int) -> None:
    """Log calls of this hour for a caller on this machine."""
    clock = SystemClock()
    ids, store = TimeIds(clock), SqliteStore(path, clock)
    await store.open()
    for first in range(0, rows, 1_000):
        await store.log.append(
            [
                CallRecord(ids.next(), "127.0.0.1", f"text {number} ".ljust(60, "x"), "ham", 0.9, "m", False)
                for number in range(first, first + 1_000)
            ]
        )
    await store.close()


_FIRST_CALLER = {"warm up": IPv4Address("10.0.0.0"), "load": IPv4Address("20.0.0.0")}


async def _ask(port: int, name: str, requests: int, *, texts_each: int) -> None:
    """Send requests, no text and no caller twice, on some connections; each must be answered with 200."""
    numbers = count()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (number := next(numbers)) < requests:
            texts = [f"{name} {number} {place}" for place in range(texts_each)]
            body = {"texts": texts} if texts_each > 1 else {"text": texts[0]}
            writer.write(request(body, caller=str(_FIRST_CALLER[name] + number)))
            status, _ = await read_answer(reader)
            assert status == 200
        writer.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
