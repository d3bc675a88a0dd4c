"""What is refused, with which status and code; that nothing a caller sends makes the service fail."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from tests.support.fuzzing import CASES, asked, figures  # noqa: F401 - a fixture of this module

Ask = Callable[..., httpx.Response]

JSON = {"content-type": "application/json"}
SECRET = "hunter2"


def _post(ask: Ask, body: bytes, path: str = "/prediction", **headers: str) -> httpx.Response:
    return ask(
        "POST", path, content=body, headers=JSON | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def _assert_refused(response: httpx.Response, status: int, code: str, *, names: str = "") -> None:
    body = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code)
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message"}
    assert names in body["error"]["message"]
    assert SECRET not in response.text


@pytest.mark.parametrize(
    ("body", "status", "code", "names"),
    [
        (b"", 400, "not_json", "body"),
        (b"hunter2", 400, "not_json", "body"),
        (b'{"text": "hunter2"', 400, "not_json", "body"),
        (b'{"text": "hunter2"} {}', 400, "not_json", "body"),
        (b'{"text": NaN}', 400, "not_json", "`text` is NaN"),
        (b'{"text": -Infinity}', 400, "not_json", "`text` is NaN or infinite"),
        (b'{"text": "hunter2 \xff"}', 400, "not_json", "UTF-8"),
        (b'{"text": "hunter2 \xed\xa0\xbd"}', 400, "not_json", "`text` contains an unpaired surrogate"),
        (b'{"text": "hunter2 \\ud83d"}', 400, "not_json", "`text` contains an unpaired surrogate"),
        (b'{"text": "hunter2 \\ude00"}', 400, "not_json", "`text` contains an unpaired surrogate"),
        (b'{"text": "hunter2 \\ud83d"', 400, "not_json", "body"),
        (b"NaN", 400, "not_json", "body"),
        (b'{"text": "\\ud83d", "x": ' + b"[" * 1_900, 400, "not_json", "body"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "x"}', 400, "not_json", "body"),
        (b"[" * 1_900, 400, "not_json", "body"),
        (b'{"text": ' + b"[" * 1_900, 400, "not_json", "body"),
        (b'{"a": ' * 300, 400, "not_json", "body"),
        (b"null", 422, "wrong_type", "body"),
        (b'["hunter2"]', 422, "wrong_type", "body"),
        (b"{}", 422, "missing_field", "`text`"),
        (b'{"text": null}', 422, "wrong_type", "`text`"),
        (b'{"text": 1e999}', 400, "not_json", "`text` is NaN or infinite"),
        (b'{"text": ["hunter2"]}', 422, "wrong_type", "`text`"),
        (b'{"text": "x", "echo_input": 1}', 422, "wrong_type", "`echo_input`"),
        (b'{"text": "x", "echo_input": "true"}', 422, "wrong_type", "`echo_input`"),
        (b'{"text": "x", "skip_cache": null}', 422, "wrong_type", "`skip_cache`"),
        (b'{"text": "x", "texts": ["x"]}', 422, "unknown_field", "`texts`"),
        (b'{"text": "x", "my hunter2": 1}', 422, "unknown_field", "unprintable name"),
        (b'{"text": "x", "a` - at `$.text`": 1}', 422, "unknown_field", "unprintable name"),
        (b'{"text": "hunter2", "text": "x"}', 400, "duplicate_field", "`text`"),
        (b'{"text": "hunter2", "te\\u0078t": "x"}', 400, "duplicate_field", "`text`"),
        (b'{"echo_input": true, "text": "x", "echo_input": false}', 400, "duplicate_field", "`echo_input`"),
        (b'{"text": "' + b"hunter2" * 15 + b'"}', 422, "text_too_long", "`text`"),
        (b'{"text": "' + b"hunter2" * 300 + b'"}', 413, "body_too_large", "2000 bytes"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_prediction_is_refused_when_the_body_is(
    ask: Ask, body: bytes, status: int, code: str, names: str
) -> None:
    _assert_refused(_post(ask, body), status, code, names=names)


@pytest.mark.parametrize(
    ("body", "status", "code", "names"),
    [
        ({"texts": []}, 422, "no_texts", "`texts`"),
        ({"texts": SECRET}, 422, "wrong_type", "`texts`"),
        ({"texts": ["x", None]}, 422, "wrong_type", "`texts[1]`"),
        ({"texts": ["x", [SECRET]]}, 422, "wrong_type", "`texts[1]`"),
        ({"texts": ["x", SECRET + "\ud83d"]}, 400, "not_json", "`texts[1]` contains an unpaired surrogate"),
        ({"text": SECRET}, 422, "unknown_field", "`text`"),
        ({}, 422, "missing_field", "`texts`"),
        ({"texts": ["x"] * 6}, 422, "too_many_texts", "`texts`"),
        ({"texts": ["x", "x" * 101]}, 422, "text_too_long", "`texts[1]`"),
    ],
)
def test_predictions_are_refused_when_the_body_is(
    ask: Ask, body: Any, status: int, code: str, names: str
) -> None:
    _assert_refused(_post(ask, json.dumps(body).encode(), "/predictions"), status, code, names=names)


@pytest.mark.parametrize("colons", [b"http://a:b", b"::::", b'\\":\\":'])
def test_text_with_colons_is_no_duplicate_key(ask: Ask, colons: bytes) -> None:
    assert _post(ask, b'{"text": "' + colons + b'", "echo_input": true}').status_code == 200


@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"]
)
def test_json_is_accepted_when_its_media_type_has_parameters(ask: Ask, media_type: str) -> None:
    assert _post(ask, b'{"text": "x"}', content_type=media_type).status_code == 200


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_body_is_refused_when_it_is_not_declared_as_json(ask: Ask, media_type: str) -> None:
    response = _post(ask, b'{"text": "x"}', content_type=media_type)
    _assert_refused(response, 415, "wrong_content_type", names="content-type")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("X-GZIP", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_unpacked(ask: Ask, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    for path, body in [("/prediction", b'{"text": "win"}'), ("/predictions", b'{"texts": ["win"]}')]:
        packed = _post(ask, pack(body), path, content_encoding=encoding)
        assert packed.status_code == 200
        plain = _post(ask, body, path)  # the cache has it now, which is the only difference
        without_ids = [re.sub(rb'"id":"[^"]+"', b'"id":""', one.content) for one in (packed, plain)]
        assert without_ids[0].replace(b'"from_cache":false', b'"from_cache":true') == without_ids[1]
    for broken in [b"", b"\x1f\x8b", pack(body)[:-1], pack(body) + b"x", pack(body) * 2, body]:
        _assert_refused(_post(ask, broken, content_encoding=encoding), 400, "broken_encoding")


def test_a_bomb_is_unpacked_no_further_than_the_limit(ask: Ask) -> None:
    bomb = gzip.compress(b'{"text": "' + b" " * 1_000_000 + b'"}')
    assert len(bomb) < 2_000
    _assert_refused(_post(ask, bomb, content_encoding="gzip"), 413, "body_too_large", names="2000 bytes")


def test_a_body_is_refused_when_its_encoding_is_unknown(ask: Ask) -> None:
    for encoding in ["br", "gzip, gzip", ""]:
        response = _post(ask, b'{"text": "x"}', content_encoding=encoding)
        _assert_refused(response, 415, "compressed_body", names="content-encoding")
    assert _post(ask, b'{"text": "x"}', content_encoding="identity").status_code == 200


@pytest.mark.parametrize(
    ("query", "status", "code", "names"),
    [
        ("", 422, "missing_field", "`text`"),
        ("echo_input=true", 422, "missing_field", "`text`"),
        ("text=hunter2&text=b", 400, "duplicate_field", "`text`"),
        ("text=a&echo_input=maybe-hunter2", 422, "wrong_type", "`echo_input`"),
        ("text=a&skip_cache=", 422, "wrong_type", "`skip_cache`"),
        ("text=a&limit=3", 422, "unknown_field", "`limit`"),
        ("text=a&my+hunter2=3", 422, "unknown_field", "unprintable name"),
        ("text=a&%F0%9F%98%80=1&%F0%9F%98%80=1", 400, "duplicate_field", "unprintable name"),
        ("text=%FF", 400, "broken_query", "UTF-8"),
        ("text=%ED%A0%BD", 400, "broken_query", "UTF-8"),
        ("&".join(f"a{n}=1" for n in range(100)), 400, "broken_query", "parameters"),
        ("text=" + "x" * 101, 422, "text_too_long", "`text`"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_prediction_by_query_is_refused_when_the_query_is(
    ask: Ask, query: str, status: int, code: str, names: str
) -> None:
    _assert_refused(ask("GET", f"/prediction?{query}"), status, code, names=names)


async def test_body_above_the_limit_is_refused_while_it_arrives(app: ASGIApp) -> None:
    """8,000 bytes are four times the limit: what a client sends beyond that is not read."""
    status, reads = await _endless_body(app)
    assert status == 413
    assert reads == 9


async def test_a_body_is_refused_unread_when_it_declares_far_too_much(app: ASGIApp) -> None:
    status, reads = await _endless_body(app, (b"content-length", b"8001"))
    assert (status, reads) == (413, 0)


@pytest.mark.parametrize("length", [b"-1", b"x", b"9" * 5_000, "²".encode("latin-1")])
async def test_a_strange_content_length_fails_nothing(app: ASGIApp, length: bytes) -> None:
    status, _ = await _endless_body(app, (b"content-length", length))
    assert status == 413


def test_connection_with_an_unread_body_is_closed(ask: Ask) -> None:
    assert _post(ask, b"x" * 2_001).headers["connection"] == "close"
    assert "connection" not in _post(ask, b"x").headers


def test_chunked_body_is_accepted_up_to_the_limit(ask: Ask) -> None:
    body = b'{"text": "x"}'
    padding = b" " * (2_000 - len(body))
    accepted = ask("POST", "/prediction", content=_chunked(body, padding), headers=JSON)
    refused = ask("POST", "/prediction", content=_chunked(body, padding, b" "), headers=JSON)
    assert (accepted.status_code, refused.status_code) == (200, 413)


async def test_caller_gone_within_its_body_fails_nothing(app: ASGIApp) -> None:
    coming = [{"type": "http.request", "body": b'{"te', "more_body": True}, {"type": "http.disconnect"}]
    assert await _run(app, coming) == 400


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_names = st.sampled_from(["text", "texts", "echo_input", "skip_cache"]) | st.text(max_size=5)
_anything = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=CASES, deadline=None)
@given(document=st.dictionaries(_names, _anything, max_size=4) | _anything, path=st.sampled_from(["", "s"]))
def test_any_json_is_answered_or_refused_when_posted(ask: Ask, document: Any, path: str) -> None:
    response = _generated(ask, json.dumps(document).encode(), f"/prediction{path}")
    assert response.status_code in {200, 400, 413, 422}


@settings(max_examples=CASES, deadline=None)
@given(body=st.binary(max_size=60), path=st.sampled_from(["", "s"]))
def test_any_bytes_are_answered_or_refused_when_posted(ask: Ask, body: bytes, path: str) -> None:
    assert _generated(ask, body, f"/prediction{path}").status_code in {400, 422}


@settings(max_examples=CASES, deadline=None)
@given(text=st.text(max_size=100))
def test_any_text_comes_back_unchanged_when_echoed(ask: Ask, text: str) -> None:
    for response in [
        ask("POST", "/predictions", json={"texts": [text]}),
        ask("GET", "/prediction", params={"text": text, "echo_input": "1"}),
    ]:
        asked[f"{response.request.method} {response.request.url.path}"] += 1
        [body] = response.json() if isinstance(response.json(), list) else [response.json()]
        assert body["input"] == text


_SPELLINGS = ('"text"', '"te\\u0078t"', '"echo_input"', '"echo_inpu\\u0074"', '"skip_cache"')


@settings(max_examples=CASES, deadline=None)
@given(keys=st.lists(st.sampled_from(_SPELLINGS), max_size=3), text=st.text('a:"\\{,é\n', max_size=20))
def test_a_key_that_stands_twice_is_found_however_it_is_spelled(ask: Ask, keys: list[str], text: str) -> None:
    names = ["text", *map(json.loads, keys)]
    values = [json.dumps(text, ensure_ascii=False) if name == "text" else "true" for name in names]
    pairs = [f"{key}: {value}" for key, value in zip(['"text"', *keys], values, strict=True)]
    response = _generated(ask, f"{{{', '.join(pairs)}}}".encode(), "/prediction")
    assert response.status_code == (200 if len({*names}) == len(names) else 400)


def _generated(ask: Ask, body: bytes, path: str) -> httpx.Response:
    asked[f"POST {path}"] += 1
    return _post(ask, body, path)


async def _endless_body(app: ASGIApp, *headers: tuple[bytes, bytes]) -> tuple[int, int]:
    reads = 0

    class Endless(list[Message]):
        def pop(self, _: Any = 0) -> Message:
            nonlocal reads
            reads += 1
            return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    return await _run(app, Endless(), *headers), reads


async def _run(app: ASGIApp, coming: list[Message], *headers: tuple[bytes, bytes]) -> int:
    status = 0

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/prediction",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }
    await app(scope, receive, send)
    return status


async def _chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield a body in parts, so that no length is declared."""
    for chunk in chunks:
        yield chunk
