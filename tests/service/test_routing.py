"""Methods, paths and defects: what every route has in common."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp, Message

from tamis.inference.classifier import Classifier
from tamis.models.scorer import Scorer, Scores
from tests.support.serving import client_of, make_app

Ask = Callable[..., httpx.Response]


@pytest.mark.parametrize(
    "path", ["/nope", "/prediction/x", "/PREDICTION", "/docs/../secret", "/prediction%00"]
)
def test_a_path_is_not_found_when_nothing_is_there(ask: Ask, path: str) -> None:
    response = ask("GET", path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert path not in response.text


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/prediction", "PUT", "GET, HEAD, POST"),
        ("/predictions", "GET", "POST"),
        ("/predictions", "HEAD", "POST"),
        ("/model", "POST", "GET, HEAD"),
        ("/docs", "OPTIONS", "GET, HEAD"),
        ("/model", "HUNTER2", "GET, HEAD"),
    ],
)
def test_a_method_is_refused_with_those_allowed(ask: Ask, path: str, method: str, allowed: str) -> None:
    response = ask(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert "HUNTER2" not in response.text


@pytest.mark.parametrize("path", ["/", "/prediction?text=x&skip_cache=true", "/docs", "/docs/swagger-ui.css"])
def test_head_gives_the_headers_of_get_without_a_body(ask: Ask, path: str) -> None:
    head, got = ask("HEAD", path), ask("GET", path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))


class _FailsOnSecrets(Scorer):
    """Classifies the examples of the documentation, fails on what a caller sends."""

    def score(self, texts: Sequence[str]) -> Scores:
        if "hunter2" in texts[0]:
            raise ValueError(f"cannot score {texts[0]}")
        return np.full((len(texts), 2), 0.5)


async def test_a_defect_is_answered_and_logged_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    broken = Classifier(_FailsOnSecrets(), ("ham", "spam"), name="broken", version="1", identity="0")
    with caplog.at_level(logging.ERROR):
        response = await _post(make_app(None, broken), "hunter2")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "hunter2" not in response.text and "ValueError" not in response.text
    [record] = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["error"], fields["route"]) == ("ValueError", "/prediction")
    assert fields["at"][-1].endswith(" score"), "the traceback shows where it failed"
    assert fields["request_id"] == response.headers["x-request-id"]
    assert "hunter2" not in caplog.text + str(fields)


async def test_a_websocket_is_closed_politely(app: ASGIApp) -> None:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    await app({"type": "websocket", "path": "/", "headers": [], "root_path": ""}, receive, send)
    assert [message["type"] for message in said] == ["websocket.close"]


async def _post(app: ASGIApp, text: str) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post("/prediction", json={"text": text})
