"""Searches whose reader has gone end at once, whatever they search, and keep nobody waiting."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import apsw
import httpx
import pytest

from tamis.clock import SystemClock
from tamis.storage import TimeIds, make_store
from tests.support.metrics_page import value
from tests.support.process_stats import cpu_seconds
from tests.support.processes import serving

ROWS = 400_000
SEARCHES = 100
TEXT = "some text that is not what anyone is looking for, " * 4
_INSERT = """
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
    INSERT INTO calls
    SELECT CAST(unhex(printf('%016x', ? - n)) || ? AS BLOB), '127.0.0.1', ?,
        'ham', 0.9, 'm', 0, 'ham', 'm', '1'
    FROM numbers
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store of many calls of the last second."""
    folder = tmp_path_factory.mktemp("abandoned")
    asyncio.run(_make(folder / "tamis.db"))
    newest = TimeIds(SystemClock()).next()
    connection = apsw.Connection(str(folder / "tamis.db"))
    connection.execute(_INSERT, (ROWS, int.from_bytes(newest[:8], "big"), newest[8:], TEXT))
    connection.close()
    return folder


async def _make(path: Path) -> None:
    store = make_store(f"sqlite:///{path}", SystemClock())
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    "path", ["/log/summary?contains=nowhere", "/log?contains=nowhere", "/log?contains=nowhere&format=csv"]
)
def test_abandoned_searches_cost_no_time_afterwards(folder: Path, path: str) -> None:
    settings = {"TAMIS_DRAIN_SECONDS": "0", "TAMIS_STOP_SECONDS": "60"}
    with serving(folder, "--mock", "--store", "sqlite:///tamis.db", **settings) as service:
        began = time.monotonic()
        for _ in range(SEARCHES):
            with socket.create_connection(("127.0.0.1", service.port)) as gone:
                gone.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with httpx.Client(base_url=service.address, timeout=60) as http:
            sent, busy = time.monotonic(), cpu_seconds(service.process.pid)
            while value(http.get("/metrics").text, "tamis_log_reads_in_progress") > 0:
                pass
            ended = time.monotonic()
            assert http.get("/log?limit=1").status_code == 200
            answered = time.monotonic()
            used = cpu_seconds(service.process.pid) - busy
        stopping = time.monotonic()
        assert service.stop() == 0
        print(  # noqa: T201 - figures of one run
            f"{SEARCHES} sent in {sent - began:.2f} s, all ended after {ended - sent:.2f} s, "
            f"/log in {answered - ended:.2f} s, {used:.2f} s of processor time, "
            f"stopped in {time.monotonic() - stopping:.2f} s"
        )
        assert used < 1.0, "eight searches of every row take 2 to 4 s"
        assert answered - sent < 10.0
        assert time.monotonic() - stopping < 5.0
