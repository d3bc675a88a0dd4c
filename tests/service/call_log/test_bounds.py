"""Readers that do not read and searches that are abandoned cost a bounded amount."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.errors import InputError
from tamis.events import Events
from tamis.service.call_log.readers import (
    MAX_READS,
    MAX_READS_PER_CALLER,
    LogReaders,
    unless_abandoned,
)
from tamis.service.responses import Refused
from tamis.storage import CallRecord, LogQuery, Store, TimeIds, make_store
from tamis.storage.query import PAGE_CHARS
from tests.support.metrics_page import value
from tests.support.processes import Service, serving

_GROWTH_MB = 60.0
_STORE = "sqlite:///tamis.db"


@pytest.mark.parametrize("url", ["memory:", "sqlite"])
async def test_page_ends_when_its_texts_are_long(tmp_path: Path, url: str) -> None:
    async def read() -> list[int]:
        store = await _filled(f"sqlite:///{tmp_path}/a.db" if url == "sqlite" else url, 20, "é" * 10_000)
        sizes, cursor = [], None
        while True:
            page = await store.log.read(LogQuery(), after=cursor, limit=100)
            sizes.append(len(page.rows))
            cursor = page.cursor
            if cursor is None:
                await store.close()
                return sizes

    sizes = await read()
    assert sum(sizes) == 20
    assert max(sizes) == -(-PAGE_CHARS // 10_000)


@pytest.mark.parametrize(
    "path", ["/log?format=ndjson", "/log?format=csv", "/log?limit=180", "/recent_log", "/log?contains=x"]
)
async def test_readers_who_do_not_read_cost_little_memory(tmp_path: Path, path: str) -> None:
    await _close(_filled(f"sqlite:///{tmp_path}/tamis.db", 180, "x\x01" * 5_000))
    with (
        serving(
            tmp_path, "--mock", "--store", _STORE, is_program=True, TAMIS_TRUSTED_PROXIES="127.0.0.1"
        ) as service,
        ExitStack() as sockets,
    ):
        before = _rss_mb(service)
        for _ in range(200):
            unread = socket.create_connection(("127.0.0.1", service.port))
            sockets.enter_context(unread)
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            unread.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        page = httpx.get(f"{service.address}/metrics").text
        assert value(page, "tamis_log_reads_in_progress") <= MAX_READS_PER_CALLER
        assert value(page, "tamis_refusals_total", code="too_many_reads") > 0
        assert value(page, "tamis_log_read_rows_total") > 0
        assert _rss_mb(service) - before < _GROWTH_MB


async def test_unread_responses_of_many_callers_cost_little(tmp_path: Path) -> None:
    async def fill() -> None:
        for number in range(MAX_READS):
            await _close(_filled(f"sqlite:///{tmp_path}/tamis.db", 60, "\x01" * 10_000, f"10.0.0.{number}"))

    await fill()
    with (
        serving(
            tmp_path, "--mock", "--store", _STORE, is_program=True, TAMIS_TRUSTED_PROXIES="127.0.0.1"
        ) as service,
        ExitStack() as sockets,
    ):
        before = _rss_mb(service)
        for number in range(200):
            unread = socket.create_connection(("127.0.0.1", service.port))
            sockets.enter_context(unread)
            unread.sendall(
                b"GET /log?format=ndjson HTTP/1.1\r\nHost: localhost\r\n"
                b"X-Forwarded-For: 10.0.0.%d\r\n\r\n" % (number % MAX_READS)
            )
        for _ in range(10):
            page = httpx.get(f"{service.address}/metrics", timeout=30).text
            assert value(page, "tamis_log_reads_in_progress") <= MAX_READS
            assert _rss_mb(service) - before < _GROWTH_MB


async def test_abandoned_searches_end_and_delay_no_stop(tmp_path: Path) -> None:
    await _close(_filled(f"sqlite:///{tmp_path}/tamis.db", 60_000, "some text " * 20))
    settings = {"TAMIS_DRAIN_SECONDS": "0", "TAMIS_STOP_SECONDS": "60"}
    with serving(tmp_path, "--mock", "--store", _STORE, **settings) as service:
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", service.port)) as gone:
                gone.sendall(b"GET /log/summary?contains=nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert httpx.get(f"{service.address}/log?limit=1", timeout=30).status_code == 200
        page = httpx.get(f"{service.address}/metrics").text
        assert value(page, "tamis_log_reads_in_progress") <= MAX_READS_PER_CALLER
        assert service.stop() == 0


async def test_search_is_cancelled_when_its_client_leaves() -> None:
    cancelled = asyncio.Event()

    async def search() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    with pytest.raises(InputError) as left:
        await unless_abandoned(search(), receive)
    assert left.value.code == "search_abandoned"
    await cancelled.wait()


@pytest.mark.parametrize(
    ("name_of", "limit", "code"),
    [(lambda number: "a", MAX_READS_PER_CALLER, "too_many_reads"), (str, MAX_READS, "log_busy")],
    ids=["one caller", "many callers"],
)
def test_read_is_refused_when_too_many_go_on(name_of: Callable[[int], str], limit: int, code: str) -> None:
    readers = LogReaders(Events())
    reads = [readers.begin(name_of(number)) for number in range(limit)]
    with pytest.raises(Refused) as refused:
        readers.begin(name_of(limit))
    assert refused.value.code == code
    reads[0].end()
    reads[0].end()
    readers.begin(name_of(0))
    with pytest.raises(Refused):
        readers.begin(name_of(0))


async def _filled(url: str, rows: int, text: str, caller: str = "127.0.0.1") -> Store:
    """Return an open store with a caller's calls of this hour."""
    clock = SystemClock()
    ids, store = TimeIds(clock), make_store(url, clock)
    await store.open()
    for start in range(0, rows, 1_000):
        size = min(1_000, rows - start)
        await store.log.append(
            [CallRecord(ids.next(), caller, text, "ham", 0.9, "m", False) for _ in range(size)]
        )
    return store


async def _close(filling: Awaitable[Store]) -> None:
    await (await filling).close()


def _rss_mb(service: Service) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024
