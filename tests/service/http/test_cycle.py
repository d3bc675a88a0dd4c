"""What goes over the wire for one request and the next: framing, order, and answers that fail."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.service.request_body import WHOLE_BODY
from tamis.service.responses import WHOLE_RESPONSE
from tests.support.connection_stage import Client, Stage, on_stage

SECRET = "a text of the caller's"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was sent; paths name ways to answer, right ones and wrong ones."""
    body, more = b"", True
    while more:
        message: Message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    path = scope["path"]
    headers = [] if path in ("/stream", "/broken") else [(b"content-length", b"%d" % (len(body) + len(path)))]
    if path == "/line-break":
        headers.append((b"x-note", b"a\r\nset-cookie: b"))
    if path == "/fails":
        raise ValueError(SECRET)
    if path == "/too-short":
        headers = [(b"content-length", b"1000")]
    await send(
        {"type": "http.response.start", "status": 204 if path == "/nothing" else 200, "headers": headers}
    )
    if path == "/broken":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError(SECRET)
    if path == "/stream":
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": path.encode() + body})


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers by the extensions of this server: the body from the scope, the response in one message."""
    assert WHOLE_RESPONSE in scope["extensions"]
    body, more = scope.get(WHOLE_BODY), True
    if body is None:
        body = b""
        while more:
            message: Message = await receive()
            body, more = body + message["body"], message["more_body"]
    body = scope["path"].encode() + body
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "body": body})


def request(
    path: str = "/", body: bytes = b"", *headers: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: tamis", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def talk(stage: Stage, *sent: bytes) -> bytes:
    """Send, and return all that comes until the server hangs up."""
    reader, writer = await stage.connect()
    for piece in sent:
        writer.write(piece)
        await stage.settle()
    return await reader.read()


def whole(*sent: bytes, app: ASGIApp = application) -> bytes:
    got: list[bytes] = []

    async def test(stage: Stage) -> None:
        got.append(await talk(stage, *sent))

    on_stage(test, app)
    return got[0]


CLOSE = "connection: close"
in_both_ways = pytest.mark.parametrize("app", [application, at_once])


@in_both_ways
def test_an_answer_has_its_length_and_the_connection_stays(app: ASGIApp) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        for body in (b"a", b"bb"):
            writer.write(request("/", body))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection" not in head
            assert b"content-length: %d\r\n" % (1 + len(body)) in head
            assert await reader.readexactly(1 + len(body)) == b"/" + body

    on_stage(test, app)


@pytest.mark.parametrize("reads", [True, False])
def test_an_idle_connection_holds_no_body(reads: bool) -> None:
    held: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope[WHOLE_BODY] == b"body"
        if reads:
            await receive()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "body": b""})

    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(request("/", b"body"))
        await reader.readuntil(b"\r\n\r\n")
        [connection] = stage.state.connections
        latest = connection._latest
        held.extend([latest.scope.get(WHOLE_BODY), latest._body])

    on_stage(test, application)
    assert held == [None, b""]


def test_a_stream_comes_in_chunks_to_a_client_that_knows_them() -> None:
    head, _, body = whole(request("/stream", b"", CLOSE)).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n7\r\n/stream\r\n0\r\n\r\n"


def test_a_stream_ends_with_the_connection_for_an_older_client() -> None:
    head, _, body = whole(request("/stream", version="1.0")).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head and b"connection: close" in head
    assert body == b"onetwo/stream"


@in_both_ways
def test_a_head_request_gets_the_head_alone(app: ASGIApp) -> None:
    head, _, body = whole(request("/", b"", CLOSE, method="HEAD"), app=app).partition(b"\r\n\r\n")
    assert b"content-length: 1\r\n" in head and body == b""


def test_an_answer_without_content_has_no_body() -> None:
    assert whole(request("/nothing", b"", CLOSE)).partition(b"\r\n\r\n")[2] == b""


@in_both_ways
def test_requests_that_come_together_are_answered_in_their_order(app: ASGIApp) -> None:
    paths = [f"/{number}" for number in range(20)]
    together = b"".join(request(path, b"x" * number) for number, path in enumerate(paths))
    answers = whole(together + request("/end", b"", CLOSE), app=app).split(b"HTTP/1.1 200 OK\r\n")[1:]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [*(path.encode() + b"x" * n for n, path in enumerate(paths)), b"/end"]


@in_both_ways
@given(bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=4), data=st.data())
@settings(max_examples=30, deadline=None)
def test_requests_cut_anywhere_are_the_same_requests(
    app: ASGIApp, bodies: list[bytes], data: st.DataObject
) -> None:
    sent = b"".join(request("/", body) for body in bodies) + request("/end", b"", CLOSE)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    answers = whole(*pieces, app=app).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [
        *(b"/" + body for body in bodies),
        b"/end",
    ]


@in_both_ways
def test_who_asks_first_is_told_to_send_the_body(app: ASGIApp) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(request("/", b"body", "expect: 100-continue")[: -len(b"body")])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(5) == b"/body"

    on_stage(test, app)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("piece_bytes", [1, 50, 10_000])
def test_upgrade_with_a_body_is_answered_in_http_1_1(upgrade: str, piece_bytes: int) -> None:
    offer = ("connection: upgrade, http2-settings", f"upgrade: {upgrade}", "http2-settings: AAMAAABkAAQ")
    chunked = request("/", b"", *offer).replace(b"content-length: 0", b"transfer-encoding: chunked")
    sent = request("/", b"body", *offer) + request("/", b"", *offer) + chunked + b"3\r\nabc\r\n0\r\n\r\n"
    sent += request("/end", b"", CLOSE)
    pieces = [sent[start : start + piece_bytes] for start in range(0, len(sent), piece_bytes)]
    answers = whole(*pieces).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"/body", b"/", b"/abc", b"/end"]


@pytest.mark.parametrize("target", ["http://tamis/a%20b?c=d", "/a%20b?c=d#e"])
def test_a_target_in_any_form_leads_to_its_path(target: str) -> None:
    assert whole(request(target, b"", CLOSE)).endswith(b"/a b")


@pytest.mark.parametrize("path", ["/fails", "/line-break"])
def test_failing_application_is_answered_500_without_details(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, _, body = whole(request(path)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ") and b"connection: close" in head
    assert body == b"Internal Server Error"
    assert "the application failed" in caplog.text and SECRET not in caplog.text
    assert b"set-cookie" not in head


@pytest.mark.parametrize("path", ["/broken", "/too-short"])
def test_an_answer_that_breaks_off_ends_with_the_connection(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = whole(request(path))
    assert not answer.endswith(b"0\r\n\r\n")
    assert "the application failed" in caplog.text


def test_a_client_that_leaves_is_told_to_the_application() -> None:
    left: list[str] = []

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        left.append((await receive())["type"])

    async def test(stage: Stage) -> None:
        client: Client = await stage.connect()
        client[1].write(request("/"))
        await stage.settle()
        client[1].transport.abort()
        while not left:
            await asyncio.sleep(0)

    on_stage(test, patient)
    assert left == ["http.disconnect"]
