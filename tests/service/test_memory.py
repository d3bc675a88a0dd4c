"""Memory stays flat, whatever number of requests, of different texts and of different callers has passed."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import pytest

from tests.loads import request
from tests.processes import Service, read_answer, serving

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
def test_memory_is_flat_after_warm_up(tmp_path: Path, requests: int, texts_each: int) -> None:
    with serving(tmp_path, "--mock", "--store", "sqlite:///tamis.db", **_SETTINGS) as service:
        asyncio.run(_ask(service.port, "warm up", WARM_UP_TEXTS // 25, texts_each=25))
        before = _memory_mb(service)
        asyncio.run(_ask(service.port, "load", requests, texts_each=texts_each))
        after = _memory_mb(service)
    print(  # noqa: T201 - the figures of `make soak`
        f"{requests:,} requests of {texts_each}, each of another caller: "
        f"{before:.1f} MB before, {after:.1f} MB after"
    )
    assert after - before < GROWTH_MB


_FIRST_CALLER = {"warm up": IPv4Address("10.0.0.0"), "load": IPv4Address("20.0.0.0")}


def _memory_mb(service: Service) -> float:
    """Return the memory that the process alone has written to."""
    rollup = Path(f"/proc/{service.process.pid}/smaps_rollup").read_text()
    return int(rollup.split("\nPrivate_Dirty:")[1].split()[0]) / 1024


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
