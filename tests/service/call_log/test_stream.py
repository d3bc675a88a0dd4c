"""A failure in the middle of a stream, and readers who are slow or leave, over real connections."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from tamis.events import Events
from tamis.service.call_log.formats import CALL_FORMATS
from tamis.service.call_log.readers import MAX_READS_PER_CALLER, LogReaders
from tamis.service.call_log.stream import PAGE_ROWS, LogStream
from tamis.storage import CallRecord, LogQuery
from tamis.storage.sqlite import SqliteStore
from tests.support.logbook import MODEL, Log, with_log
from tests.support.watched import WatchedStore

PADDING = "x" * 1_000


class Served:
    """A log on a real socket; `ended` counts the requests that are over."""

    def __init__(self, log: Log, store: WatchedStore):
        self.log, self.store = log, store
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.ended = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.log.app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self.ended.release()

    async def stalled_reader(self, path: str = "/recent_log") -> socket.socket:
        """Ask for the log and read nothing; return when the service has stopped fetching."""
        before = self.store.pages
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", self.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: tamis\r\nconnection: close\r\n\r\n".encode())
        while self.store.pages == before:
            await self.other_work()
        pages = before
        while pages != self.store.pages:
            pages = self.store.pages
            await self.other_work()
        return client

    async def other_work(self) -> None:
        """Keep the thread busy that would fetch the next page."""
        for _ in range(50):
            await self.store.inner.log.read(LogQuery(caller="nobody"), limit=1)


@asynccontextmanager
async def served(log: Log, *, fails_at_page: int | None = None) -> AsyncIterator[Served]:
    store = WatchedStore(log.store, fails_at_page=fails_at_page)
    service = Served(Log(store, log.clock), store)
    server = uvicorn.Server(
        uvicorn.Config(
            service, log_config=None, log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
    )
    task = asyncio.create_task(server.serve([service.listener]))
    try:
        yield service
    finally:
        server.should_exit = True
        await task


async def fill(log: Log, rows: int, caller: str = "alice", text: str = PADDING) -> None:
    for _ in range(0, rows, 1_000):
        calls = [CallRecord(log.ids.next(), caller, text, "ham", 0.5, MODEL, False) for _ in range(1_000)]
        await log.store.log.append(calls)


def read_all(client: socket.socket) -> bytes:
    with client:
        return b"".join(iter(lambda: client.recv(1 << 20), b""))


def test_stalled_reader_holds_little_memory_and_no_transaction(tmp_path: Path) -> None:
    readers, rows = MAX_READS_PER_CALLER, 20_000

    async def test(log: Log) -> None:
        assert isinstance(log.store, SqliteStore)
        await fill(log, rows)
        async with served(log) as service:
            tracemalloc.start()
            waiting = [await service.stalled_reader() for _ in range(readers)]
            kept_bytes, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert kept_bytes < readers * 500_000  # a page is 0.1 MB, the whole log 20 MB
            await log.store.checkpoint()
            wal = tmp_path / "tamis.db-wal"
            wal_bytes = wal.stat().st_size
            for _ in range(20):
                await fill(log, 2_000, caller="bob")
                await log.store.checkpoint()
            assert wal.stat().st_size < wal_bytes + 16_000_000  # 40 MB went through it
            assert service.store.pages < readers * rows / PAGE_ROWS
            for client in waiting:
                client.close()
            for _ in waiting:
                await service.ended.acquire()

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


def test_a_reader_who_goes_on_gets_everything(tmp_path: Path) -> None:
    async def test(log: Log) -> None:
        await fill(log, 10_000)
        async with served(log) as service:
            client = await service.stalled_reader("/log?format=ndjson")
            document = await asyncio.to_thread(read_all, client)
            assert document.count(b'"caller":"alice"') == 10_000
            assert document.endswith(b"0\r\n\r\n")

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


def test_the_stream_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    async def test(log: Log) -> None:
        await fill(log, 20_000)
        async with served(log) as service:
            client = await service.stalled_reader()
            pages = service.store.pages
            client.close()
            await service.ended.acquire()
            assert service.store.pages <= pages + 1 < 20_000 / PAGE_ROWS

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


@pytest.mark.parametrize("path", ["/recent_log", "/log?format=csv", "/log?format=ndjson", "/log?limit=500"])
def test_a_failure_in_the_middle_breaks_the_connection(tmp_path: Path, path: str) -> None:
    async def test(log: Log) -> None:
        await fill(log, 1_000)
        async with served(log, fails_at_page=3) as service, httpx.AsyncClient() as http:
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await http.get(f"http://127.0.0.1:{service.port}{path}")

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


def test_a_failure_at_the_first_page_is_a_clean_503(tmp_path: Path) -> None:
    async def test(log: Log) -> None:
        await fill(log, 1_000)
        async with served(log, fails_at_page=1) as service, httpx.AsyncClient() as http:
            response = await http.get(f"http://127.0.0.1:{service.port}/recent_log")
            assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
            assert "/secret/place" not in response.text

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


def test_head_has_the_headers_and_no_body(tmp_path: Path) -> None:
    async def test(log: Log) -> None:
        await fill(log, 1_000)
        async with served(log) as service, httpx.AsyncClient() as http:
            response = await http.head(f"http://127.0.0.1:{service.port}/recent_log")
            assert (response.status_code, response.content) == (200, b"")
            assert len((await http.get(f"http://127.0.0.1:{service.port}/recent_log")).json()) == 1_000

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


def test_pages_of_many_readers_are_encoded_one_per_turn() -> None:
    readers, pages = LogReaders(Events()), 0

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    async def send(message: Message) -> None:
        nonlocal pages
        pages += bool(message.get("body"))

    async def test(log: Log) -> None:
        await fill(log, 1_000)
        scope = {"type": "http", "method": "GET"}
        streams = [
            LogStream(log.store.log, LogQuery(), CALL_FORMATS["ndjson"](), read=readers.begin(str(reader)))
            for reader in range(10)
        ]
        started = [await stream.started(receive) for stream in streams]
        reading = asyncio.gather(*(stream(scope, receive, send) for stream in started))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= pages >= 100

    with_log("memory:", test)
