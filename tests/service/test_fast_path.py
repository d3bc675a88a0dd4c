"""The fast path and the FastAPI routes give the same responses to the same requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from tamis.service.request_body import WHOLE_BODY
from tamis.service.responses import WHOLE_RESPONSE
from tamis.settings import Settings
from tests.support.fuzzing import CASES
from tests.support.serving import PEER, client_of, make_app, started, without_ids

_LIMITS: dict[str, Any] = {"max_body_bytes": 200, "max_text_chars": 20, "max_texts": 3}
_JSON = (b"content-type", b"application/json")

Seen = tuple[int, list[tuple[bytes, bytes]], bytes]
"""The status, the headers and the body of a response."""


class Apps:
    """Three applications: on another server, on that of `service/http`, and without the fast path."""

    def __init__(self, runner: asyncio.Runner, chosen: Mapping[str, Any]):
        self._runner = runner
        self.all = [make_app(Settings(**chosen, fast_path=is_on)) for is_on in (True, True, False)]

    def ask(self, path: str, body: bytes, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> None:
        """Send a request to each and compare the responses."""
        answers = [
            self._runner.run(_sent(app, path, body, headers, query, has_extensions=has_extensions))
            for app, has_extensions in zip(self.all, (False, True, False), strict=True)
        ]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] != 500


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    with asyncio.Runner() as runner:
        apps = Apps(runner, _LIMITS)
        lifespans = [started(app) for app in apps.all]
        for lifespan in lifespans:
            runner.run(lifespan.__aenter__())
        yield apps
        for lifespan in lifespans:
            runner.run(lifespan.__aexit__(None, None, None))


_paths = st.sampled_from(["/prediction", "/predictions"])
_texts = st.text(max_size=25)
_valid_one = st.fixed_dictionaries(
    {"text": _texts}, optional={"echo_input": st.booleans(), "skip_cache": st.booleans()}
)
_valid_many = st.fixed_dictionaries(
    {"texts": st.lists(_texts, max_size=4)}, optional={"echo_input": st.booleans()}
)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
_broken = st.dictionaries(
    st.sampled_from(["text", "texts", "echo_input", "skip_cache", "a`b", ""]), _anything, max_size=3
)


@settings(max_examples=CASES, deadline=None)
@given(path=_paths, document=_valid_one | _valid_many | _broken, is_ascii=st.booleans())
def test_all_answer_alike_when_a_document_is_sent(
    apps: Apps, path: str, document: Any, is_ascii: bool
) -> None:
    text = json.dumps(document, ensure_ascii=is_ascii)
    apps.ask(path, text.encode("utf-8", "surrogatepass"), [_JSON])


_fragments = st.sampled_from(
    [b'{"text": "win"', b'"text": "b"', b'"te\\u0078t": "c"', b'"texts": ["a"]', b'"echo_input": true']
    + [b'"a:b"', b",", b"}", b"{", b"[", b"\xef\xbb\xbf", b"\xff", b"\\ud800", b'"', b" ", b"NaN"]
)


@settings(max_examples=CASES, deadline=None)
@given(path=_paths, body=st.lists(_fragments, max_size=6).map(b"".join) | st.binary(max_size=300))
def test_all_answer_alike_when_any_bytes_are_sent(apps: Apps, path: str, body: bytes) -> None:
    apps.ask(path, body, [_JSON])


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], b""),
        ([(b"content-type", b"text/plain")], b""),
        ([(b"content-type", b"APPLICATION/json; charset=utf-8")], b""),
        ([_JSON, (b"content-encoding", b"gzip")], b""),
        ([_JSON, (b"content-encoding", b"identity")], b""),
        ([_JSON, (b"content-length", b"99999")], b""),
        ([_JSON], b"text=a&text=b"),
        ([_JSON], b"anything=1"),
    ],
)
def test_all_answer_alike_when_headers_differ(
    apps: Apps, headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    apps.ask("/prediction", b'{"text": "win"}', headers, query)


@pytest.mark.parametrize("mount", ["", "/spam"])
async def test_application_answers_when_mounted_in_another(mount: str) -> None:
    async def ask() -> tuple[int, int, str]:
        app = make_app()
        host = FastAPI(lifespan=app.router.lifespan_context)
        host.mount(mount or "/", app)
        async with client_of(host) as client:
            answer = await client.post(f"{mount}/prediction", json={"text": "win cash"})
            document = (await client.get(f"{mount}/openapi.json")).json()
            docs = await client.get(f"{mount}/docs")
            return answer.status_code, docs.status_code, document.get("servers", [{"url": ""}])[0]["url"]

    assert await ask() == (200, 200, mount)


async def _sent(
    app: ASGIApp,
    path: str,
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    query: bytes,
    *,
    has_extensions: bool,
) -> Seen:
    """Send a request as an ASGI server does; `has_extensions`: with those of `service/http`."""
    messages: list[Message] = []
    coming = [{"type": "http.request", "body": body[:3], "more_body": True}]
    coming.append({"type": "http.request", "body": body[3:], "more_body": False})

    async def receive() -> Message:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"tamis.test"), (b"x-request-id", b"same"), *headers],
        "client": PEER,
        "server": ("tamis.test", 80),
        "scheme": "http",
    }
    if has_extensions:
        scope["extensions"] = {WHOLE_RESPONSE: {}}
        if b"content-length" not in dict(headers):  # the parser accepts no body of another length
            scope[WHOLE_BODY] = body
    await app(scope, receive, send)
    if has_extensions and "body" in messages[0]:
        messages.append({"body": messages[0]["body"]})
    start, *rest = messages
    return start["status"], sorted(start["headers"]), without_ids(b"".join(part["body"] for part in rest))
