"""Connections on real sockets; time passes only when a test says so."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from tamis.service.http.timeouts import ConnectionLimits
from tests.support import connection_stage as stage
from tests.support.connection_stage import LIMITS, Client, Stage

GET = b"GET / HTTP/1.1\r\nhost: tamis\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: tamis\r\ncontent-length: 5\r\n\r\n"
HUGE_BYTES = 30_000_000


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers `/` with the length of the body, `/huge` with more than the kernel takes, `/early` unread."""
    size = 0
    if scope["path"] != "/early":
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                scope["state"]["left"].append(scope["path"])
                return
            size += len(message["body"])
    body = b"x" * HUGE_BYTES if scope["path"] == "/huge" else b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def on_stage(test: Callable[[Stage], Awaitable[None]], limits: ConnectionLimits = LIMITS) -> None:
    stage.on_stage(test, application, limits)


async def whole_answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Read until the server hangs up; return the status, and the code of the error in the body."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


async def answer(client: Client) -> bytes:
    """Read one answer of the application's and return its body."""
    head = await client[0].readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
    return await client[0].readexactly(length)


def test_connection_endless_headers_are_answered_408() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        await stage.pass_time(1)
        for _ in range(9):  # a byte a second does not extend the time
            writer.write(b"a")
            await stage.pass_time(1)
        assert len(stage.state.connections) == 1
        await stage.pass_time(1)
        assert await whole_answer(reader) == (408, "too_slow")
        assert not stage.state.connections

    on_stage(test)


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async def test(stage: Stage) -> None:
        reader, _ = await stage.connect()
        await stage.pass_time(10)
        assert len(stage.state.connections) == 1
        await stage.pass_time(1)
        assert await reader.read() == b""

    on_stage(test)


def test_connection_endless_body_is_answered_408() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(POST)
        await stage.pass_time(1)
        [connection] = stage.state.connections
        for _ in range(4):
            writer.write(b"a")
            await stage.pass_time(7)
        await stage.pass_time(2)
        assert await whole_answer(reader) == (408, "too_slow")
        await stage.settle()
        assert connection.app_state["left"] == ["/"]

    on_stage(test)


def test_an_idle_connection_is_closed_when_no_request_follows() -> None:
    async def test(stage: Stage) -> None:
        client = await stage.connect()
        client[1].write(GET)
        assert await answer(client) == b"0"
        await stage.pass_time(75)
        client[1].write(GET)  # in time
        assert await answer(client) == b"0"
        await stage.pass_time(76)
        assert await client[0].read() == b""

    on_stage(test)


def test_connection_body_dripping_after_its_answer_is_closed() -> None:
    async def test(stage: Stage) -> None:
        client = await stage.connect()
        client[1].write(b"POST /early HTTP/1.1\r\nhost: tamis\r\ncontent-length: 5000\r\n\r\n")
        assert await answer(client) == b"0"
        for _ in range(76):
            client[1].write(b"a")
            await stage.pass_time(1)
        assert await client[0].read() == b""

    on_stage(test)


def test_a_connection_in_use_is_never_late() -> None:
    async def test(stage: Stage) -> None:
        client = await stage.connect()
        for _ in range(50):
            client[1].write(POST)
            await stage.pass_time(4)
            client[1].write(b"hello")
            assert await answer(client) == b"5"
            await stage.pass_time(4)

    on_stage(test)


def test_connection_used_between_two_checks_stays_open() -> None:
    async def test(stage: Stage) -> None:
        client = await stage.connect()
        for _ in range(200):
            client[1].write(GET)
            assert await answer(client) == b"0"
            await stage.pass_time(1)

    on_stage(test)


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(b"GET /huge HTTP/1.1\r\nhost: tamis\r\n\r\n")
        await reader.readexactly(1_000)
        await stage.pass_time(5)
        assert len(stage.state.connections) == 1
        await stage.pass_time(6)
        assert not stage.state.connections
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(HUGE_BYTES)

    on_stage(test)


def test_connection_steady_reader_gets_all_of_a_large_answer() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(b"GET /huge HTTP/1.1\r\nhost: tamis\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(30):
            await reader.readexactly(HUGE_BYTES // 30)
            await stage.pass_time(2)
        assert len(stage.state.connections) == 1

    on_stage(test)


def test_connection_above_the_limit_is_refused_with_503() -> None:
    async def test(stage: Stage) -> None:
        clients = [await stage.connect() for _ in range(3)]
        await stage.settle()
        reader, writer = await stage.connect()
        writer.write(GET)
        assert await whole_answer(reader) == (503, "too_many_connections")
        for client in clients:
            client[1].write(GET)
            assert await answer(client) == b"0"
        clients[0][1].close()
        await stage.settle()
        late = await stage.connect()
        late[1].write(GET)
        assert await answer(late) == b"0"

    on_stage(test)


@pytest.mark.parametrize("piece_bytes", [7, 900, 100_000])
def test_headers_that_are_too_large_are_answered_431(piece_bytes: int) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        data = b"GET / HTTP/1.1\r\nhost: tamis\r\nx: " + b"a" * 2_000
        for start in range(0, len(data), piece_bytes):
            writer.write(data[start : start + piece_bytes])
            await stage.settle()
        assert await whole_answer(reader) == (431, "headers_too_large")

    on_stage(test)


def test_headers_within_the_limit_and_a_body_beyond_it_are_taken() -> None:
    async def test(stage: Stage) -> None:
        head = b"POST / HTTP/1.1\r\nhost: tamis\r\ncontent-length: 50000\r\nx: "
        head += b"a" * (1_000 - len(head) - 4) + b"\r\n\r\n"
        client = await stage.connect()
        for _ in range(3):
            client[1].write(head + b"a" * 50_000)
            assert await answer(client) == b"50000"
        for byte in head:
            client[1].write(bytes([byte]))
            await asyncio.sleep(0)
        client[1].write(b"a" * 50_000)
        assert await answer(client) == b"50000"

    on_stage(test)


@pytest.mark.parametrize(
    "data", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http_is_answered_400(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(data)
        assert await whole_answer(reader) == (400, "not_http")

    on_stage(test)


def test_connection_refused_client_reads_its_answer_then_closes() -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        for _ in range(50):
            writer.write(b"x" * 10_000)
            await stage.settle()
        assert await whole_answer(reader) == (400, "not_http")
        assert len(stage.monitor.lingering) == 1
        stage.monitor.lingering.sweep(asyncio.get_running_loop().time() + 3)
        await stage.settle()
        assert len(stage.monitor.lingering) == 0

    on_stage(test)


def test_stopping_closes_idle_connections_and_answers_the_rest() -> None:
    async def test(stage: Stage) -> None:
        idle, arrived = await stage.connect(), await stage.connect()
        for client in (idle, arrived):
            client[1].write(GET)
            await answer(client)
        await stage.settle()
        with socket.socket(fileno=os.dup(arrived[1].get_extra_info("socket").fileno())) as raw:
            raw.send(GET)  # it has arrived, but the event loop has had no turn to read it
        for connection in list(stage.state.connections):
            connection.shutdown()
        assert await idle[0].read() == b""
        assert await answer(arrived) == b"0"

    on_stage(test)
