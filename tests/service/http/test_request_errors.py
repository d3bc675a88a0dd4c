"""Requests that are not acceptable, beside ones that are: limits, order of responses, memory."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import socket
import tempfile
import time
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tamis.service.http.connection import Connection
from tamis.service.http.cycle import RequestResponseCycle
from tests.service.http.test_cycle import CLOSE, application, request, whole
from tests.support.connection_stage import Stage, on_stage
from tests.support.processes import Service, activate, serving

CHUNKED = b"POST / HTTP/1.1\r\nhost: tamis\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nhost: tamis\r\n\r\n"


def last_error(received: bytes) -> tuple[int, str]:
    """Return the status and the code of the last response."""
    head, _, body = received[
        received.rindex(b"HTTP/1.1 4" if b"HTTP/1.1 4" in received else b"HTTP/1.1 5") :
    ].partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (CHUNKED.replace(b"chunked", b"gzip, chunked"), 501),
        (CHUNKED.replace(b"chunked", b"gzip"), 501),
        (CHUNKED.replace(b"chunked", b"xchunked"), 501),
        (CHUNKED.replace(b"chunked", b"chunked, gzip"), 400),
        (CHUNKED.replace(b"chunked", b"chunked\r\ntransfer-encoding: chunked"), 400),
        (CHUNKED.replace(b"chunked", b"chunked\r\ncontent-length: 3"), 400),
        (CHUNKED.replace(b"transfer", b"content-length: 3\r\ntransfer"), 400),
        (GET.replace(b"\r\n\r\n", b"\r\nx: a\r\n b\r\n\r\n"), 400),
        (GET.replace(b"\r\n\r\n", b"\r\nx: a\rb\r\n\r\n"), 400),
        (GET.replace(b"\r\n", b"\n"), 400),
        (GET.replace(b"host:", b"host :"), 400),
        (request(b"/".decode(), b"abc", "content-length: 3"), 400),
        (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", 400),
        (request().replace(b"length: 0", b"length: 18446744073709551616"), 413),
        (GET.replace(b"\r\n\r\n", b"\r\n" + b"a:\r\n" * 129 + b"\r\n"), 431),
    ],
)
def test_connection_bad_request_is_refused_after_good_ones(sent: bytes, status: int) -> None:
    assert last_error(whole(sent))[0] == status
    received = whole(request("/1") + request("/stream") + sent)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"7\r\n/stream\r\n0\r\n\r\nHTTP/1.1 %d " % status in received


def test_connection_http_1_0_without_host_is_answered() -> None:
    assert whole(b"GET /old HTTP/1.0\r\n\r\n").endswith(b"/old")


def test_connection_never_sends_100_continue_to_http_1_0() -> None:
    sent = request("/", b"body", "expect: 100-continue", version="1.0")
    assert whole(sent).startswith(b"HTTP/1.1 200 OK")


def test_connection_trailers_never_become_headers() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await stage.settle()
        writer.write(b"0\r\nX-Forwarded-For: 127.0.0.9\r\nContent-Type: a\r\n\r\n" + request("/", b"", CLOSE))
        await reader.read()

    on_stage(test, late)
    assert {name for name, _ in seen} == {b"host", b"transfer-encoding", b"content-length", b"connection"}


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"a:\r\n" * 9_000, b"1;" + b"x" * 30_000, b"0\r\nx: " + b"a" * 30_000]
)
@pytest.mark.parametrize("path", [b"/", b"/1"])
def test_connection_framing_beyond_the_limit_is_answered_431(endless: bytes, path: bytes) -> None:
    before = request("/before") if path == b"/1" else b""
    received = whole(before + CHUNKED + endless)
    assert received.count(b"200 OK") == bool(before)
    assert last_error(received) == (431, "headers_too_large")


def test_connection_chunks_of_one_byte_are_not_too_large() -> None:
    body = b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"
    received = whole(CHUNKED.replace(b"host", b"connection: close\r\nhost") + body)
    assert received.endswith(b"/" + b"a" * 20_000)


@pytest.mark.parametrize("count", [10_000, 30_000])
def test_connection_large_write_of_small_requests_is_answered(count: int) -> None:
    received = whole(request("/") * count + request("/end", b"", CLOSE))
    assert received.count(b"HTTP/1.1 200 OK\r\n") == count + 1
    assert received.endswith(b"/end")


def test_connection_pipelined_bodies_across_slices_are_whole() -> None:
    sizes = [0, 5, 4_090, 70_000, 3, 300_000, 16_384, 1]
    sent = b"".join(request(f"/{size}", b"x" * size) for size in sizes) + request("/end", b"", CLOSE)
    answers = whole(sent).split(b"HTTP/1.1 200 OK\r\n")[1:]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [*(b"/%d" % size + b"x" * size for size in sizes), b"/end"]


def test_connection_error_is_never_inside_a_streamed_response() -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()
        await receive()
        await send({"type": "http.response.body", "body": b"end"})

    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(CHUNKED)
        await reader.readuntil(b"begun\r\n")
        writer.write(b"no chunk\r\n")
        rest = await reader.read()  # cut off: nothing after the chunk that was sent
        assert rest == b""

    async def run(stage: Stage) -> None:
        with contextlib.suppress(ConnectionResetError):
            await test(stage)

    on_stage(run, streaming)


def test_connection_closed_leaves_no_object_behind() -> None:
    async def test(stage: Stage) -> None:
        shapes = [GET, CHUNKED, b"garbage\r\n\r\n", GET + b"garbage\r\n\r\n", request("/", b"", CLOSE)]
        for sent in shapes * 3:
            _, writer = await stage.connect()
            writer.write(sent)
            await stage.settle()
            writer.transport.abort()
            await stage.settle()
        stage.monitor.lingering.sweep(float("inf"))
        stage.clients.clear()
        await stage.settle()
        alive = [one for one in gc.get_objects() if isinstance(one, (Connection, RequestResponseCycle))]
        assert alive == []

    gc.collect()
    gc.disable()
    try:
        on_stage(test, application)
    finally:
        gc.enable()


def test_monitor_sweep_goes_on_after_a_failing_check(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A connection whose check fails, as a foreign kernel could make it."""

        def __init__(self) -> None:
            self.transport, self.aborted = self, False

        def close_if_late(self, now: float) -> None:
            raise OSError(95, "Operation not supported")

        def abort(self) -> None:
            self.aborted = True

    async def test(stage: Stage) -> None:
        broken = Broken()
        stage.state.connections.add(broken)  # type: ignore[arg-type]
        reader, _ = await stage.connect()
        await stage.settle()
        for second in range(12):
            stage.monitor.sweep(stage.state.connections, stage.now + second)
        assert await reader.read() == b""  # the idle one has met its deadline all the same
        assert broken.aborted
        stage.state.connections.discard(broken)  # type: ignore[arg-type]

    with caplog.at_level(logging.ERROR):
        on_stage(test, application)
    assert "connection check failed" in caplog.text


def _resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def _send_until_closed(service: Service, start: bytes, piece: bytes, total: int) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
        try:
            client.sendall(start)
            for _ in range(total // len(piece)):
                client.sendall(piece)
        except (ConnectionError, TimeoutError):
            pass
        try:
            return client.recv(1_000)
        except ConnectionError:
            return b""


def test_server_endless_framing_and_headers_keep_memory(tmp_path: Path) -> None:
    head = CHUNKED.replace(b"POST /", b"POST /prediction").replace(
        b"host", b"content-type: application/json\r\nhost"
    )
    large = GET.replace(b"\r\n\r\n", b"\r\nx: " + b"a" * 15_000 + b"\r\n\r\n")
    with serving(tmp_path, "--mock", "--workers", "1", "--store", "memory:", is_program=True) as service:
        _send_until_closed(service, large, large, 1_000_000)
        [pid] = service.workers() or {service.process.pid}
        before = _resident_kb(pid)
        for size in (8_000_000, 43_000_000):
            received = _send_until_closed(service, head + b"2\r\n{}\r\n0\r\n", b"a:\r\n" * 10_000, size)
            assert not received.startswith(b"HTTP/1.1 200")
        _send_until_closed(service, head + b"1;", b"x" * 100_000, 43_000_000)
        for _ in range(400):
            _send_until_closed(service, large, large, 200_000)
        assert _resident_kb(pid) - before < 30_000


def test_server_unread_response_on_a_unix_socket_is_cut_off() -> None:
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listener:
        folder = Path(name)
        listener.bind(str(folder / "s"))
        listener.listen(64)
        limits = {"TAMIS_SLOW_READ_SECONDS": "1", "TAMIS_MIN_READ_BYTES_PER_SECOND": "200000"}
        process = activate(listener, folder, TAMIS_WORKERS="2", TAMIS_STORE="memory:", **limits)
        try:
            _leave_unread(folder / "s")
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(60) == 0


def _leave_unread(path: Path) -> None:
    large = b"GET /redoc/redoc.standalone.js HTTP/1.1\r\nhost: tamis\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as unread, socket.socket(socket.AF_UNIX) as silent:
        for client in (unread, silent):
            client.settimeout(40)
            client.connect(str(path))
        unread.sendall(large * 10)
        silent.sendall(b"GET /")
        began = time.monotonic()
        assert b" 408 " in silent.recv(1_000)  # the clock of every worker goes on
        assert time.monotonic() - began < 30
        received = 0
        try:
            while data := unread.recv(65_536):
                received += len(data)
        except ConnectionError:
            pass
        assert received < 2_000_000
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(40)
        client.connect(str(path))
        client.sendall(GET)
        assert client.recv(100).startswith(b"HTTP/1.1 ")


def test_server_huge_content_length_is_413_at_once(tmp_path: Path) -> None:
    head = b"POST /prediction HTTP/1.1\r\nhost: tamis\r\ncontent-type: application/json\r\n"
    with serving(tmp_path, "--mock", "--workers", "1", "--store", "memory:", is_program=True) as service:
        for length in (2**64, 2**64 - 1, 10**19, 10**18, 10**9):
            with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
                client.sendall(head + b"content-length: %d\r\n\r\n{" % length)
                assert client.recv(1_000).startswith(b"HTTP/1.1 413 ")
