"""Bodies of lines on a real `tamis serve`: memory, slow readers, clients that leave, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tamis.service.http import STREAMED_BODY
from tests.support.connection_stage import Stage, on_stage
from tests.support.processes import Service, serving

_HEAD = (
    b"POST /predictions?echo_input=false HTTP/1.1\r\nhost: tamis\r\ncontent-type: application/x-ndjson\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LINES = int(os.environ.get("STREAM_LINES", "100000"))
"""How many lines the test of memory sends; a million times two takes some minutes."""
GROWTH_MB = 8.0
STALLED_MB = 16.0
"""The memory of a stream whose client stops reading; without a bound it would exceed what was sent."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("streams")
    with serving(
        folder, "--mock", "--store", "sqlite:///tamis.db", is_program=True, TAMIS_CACHE_MEMORY_ROWS="1000"
    ) as running:
        yield running


def _memory_mb(service: Service) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1_024


async def _send_lines(writer: asyncio.StreamWriter, n_lines: int) -> None:
    for start in range(0, n_lines, 1_000):
        block = b"".join(b'"line %d"\n' % (number % 5_000) for number in range(start, start + 1_000))
        writer.write(b"%x\r\n%s\r\n" % (len(block), block))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Read the head of a response, then yield each chunk of its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"chunked" in head, head
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


def test_memory_is_flat_for_lines_without_end(service: Service) -> None:
    async def stream(n_lines: int) -> tuple[int, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(_HEAD)
        sending = asyncio.create_task(_send_lines(writer, n_lines))
        answered, highest = 0, 0.0
        async for chunk in _chunks(reader):
            answered += chunk.count(b"\n")
            highest = max(highest, _memory_mb(service))
        await sending
        writer.close()
        await writer.wait_closed()
        return answered, highest

    asyncio.run(stream(20_000))
    before, began = _memory_mb(service), time.monotonic()
    answered, highest = asyncio.run(stream(_LINES))
    seconds = time.monotonic() - began
    print(f"{answered:,} lines in {seconds:.1f} s: {before:.1f} MB before, {highest:.1f} MB at most")  # noqa: T201
    assert answered == _LINES
    assert highest - before < GROWTH_MB


def test_answers_leave_while_the_body_arrives(service: Service) -> None:
    async def talk() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(_HEAD)
        answers = _chunks(reader)
        found = 0
        for text in ("one", "two", "three"):
            line = json.dumps(text).encode() + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            found += json.loads(await anext(answers))["input"] is None
        writer.write(b"0\r\n\r\n")
        assert [chunk async for chunk in answers] == []
        again = b'{"text": "x"}'
        writer.write(
            b"POST /prediction HTTP/1.1\r\nhost: tamis\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(again), again)
        )
        assert b"200 OK" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        return found

    assert asyncio.run(talk()) == 3


def test_a_reader_that_stops_stops_the_reading(service: Service) -> None:
    """The body is not read on while its answers wait: what the service holds is bounded."""

    async def overfill() -> tuple[int, float]:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=2**16)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(_HEAD)
        before, sent = _memory_mb(service), 0
        block = b'"a line"\n' * 1_000
        try:
            async with asyncio.timeout(5):  # longer than loopback's buffers take to fill
                while True:
                    writer.write(b"%x\r\n%s\r\n" % (len(block), block))
                    await writer.drain()
                    sent += len(block)
        except TimeoutError:
            pass
        grown = _memory_mb(service) - before
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return sent, grown

    sent, grown = asyncio.run(overfill())
    assert sent < 60_000_000, "the sender was never slowed down"
    assert grown < STALLED_MB


def test_a_client_that_leaves_ends_its_stream(service: Service) -> None:
    async def leave() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(_HEAD)
        line = b'"the last words of %d"\n' % time.monotonic_ns()
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await anext(_chunks(reader))
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    in_progress = re.compile(r"^http_requests_in_progress(?:{[^}]*})? (\d+)", re.MULTILINE)
    asyncio.run(leave())
    for _ in range(200):
        metrics = httpx.get(f"{service.address}/metrics", timeout=30).text
        [count] = in_progress.findall(metrics) or ["1"]
        if count == "1":  # the request for the metrics itself
            break
    assert count == "1"
    assert "unhandled exception" not in service.said


async def _streaming(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each piece of the body as it arrives."""
    scope[STREAMED_BODY] = True
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope["state"]["left"].append(scope["path"])
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def test_a_streamed_body_may_take_long_while_it_comes() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(b"POST / HTTP/1.1\r\nhost: tamis\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(10):
            writer.write(b"3\r\nabc\r\n")
            await stage.pass_time(25)
        assert len(stage.state.connections) == 1
        assert (await reader.read(1_000)).count(b"abc") == 10
        await stage.pass_time(31)  # now nothing comes for longer than a body may pause
        assert not stage.state.connections
        assert await reader.read() == b""

    on_stage(test, _streaming)
