"""Every status that the document declares for a route can be seen there, but for 500, which is a defect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from tamis.service.dialects.catalog import DIALECTS
from tamis.service.http import DRAINING
from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.settings import Settings
from tests.support.fakes import ManualClock
from tests.support.scorers import BAD, WatchedScorer, classifier_with
from tests.support.serving import client_of, make_app

_BODIES = {
    "/prediction": {"text": "hello"},
    "/predictions": {"texts": ["hello"]},
    "/explanation": {"text": "hello"},
    "/feedback": {"text": "hello", "label": "spam"},
}
_QUERIES = {"/prediction": {"text": "hello"}}
_BROKEN = {"content": b"{", "headers": {"content-type": "application/json"}}
_REQUESTS = {
    400: _BROKEN,
    404: {"json": {"prediction_id": "48437290-e5fc-11f1-8001-030304050607", "label": "spam"}},
    413: {"json": {"text": "x" * 2_000}},
    415: {"content": b"hello"},
    422: {"json": {}},
}
_OF_THE_CONNECTION = {408, 431, 501}
"""Answered before the application is called; shown by real connections in server/test_connection
(`too_slow`, `headers_too_large`) and server/test_request_errors (431, 501)."""
_SUFFIXES = {400: "?text=%ff", 422: "?nobody=knows"}


@dataclass
class Guarded:
    """A service with keys and a small allowance; it can be told to stop and to lose its keys."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    is_draining: bool = False

    def key(self, *scopes: str) -> dict[str, str]:
        key = new_key()
        name = "-".join(scopes) + key[-6:].lower()
        KeyFile(self.folder / "keys.json").add(KeyRecord(name, hash_of(key), list(scopes), datetime.now(UTC)))
        self.clock.advance(5)  # the service looks again
        return {"authorization": f"Bearer {key}"}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        settings = Settings(
            require_keys=True,
            keys_file=str(self.folder / "keys.json"),
            rate_per_minute=1,
            rate_burst=1,
            rate_file=str(self.folder / "rates.tamis"),
            max_body_bytes=1_000,
        )
        inner = make_app(settings, classifier_with(WatchedScorer()), clock=self.clock)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, "state": {DRAINING: self.is_draining}}, receive, send)

        async with client_of(app) as client:
            yield client


async def test_every_declared_status_is_seen(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    admin = guarded.key("admin")
    async with guarded.client() as client:
        document = (await client.get("/openapi.json", headers=admin)).json()
        for path, operations in document["paths"].items():
            if "{" in path:
                continue  # these need models in a folder: test_models
            for method, operation in operations.items():
                if {dialect.title for dialect in DIALECTS} & {*operation["tags"]}:
                    continue  # these have their own contract suite
                for status in sorted({*map(int, operation["responses"])} - {500} - _OF_THE_CONNECTION):
                    reads = path not in _BODIES or (method, path) == ("get", "/feedback")
                    if (status == 429 and reads) or (status, path) == (503, "/health/live"):
                        continue  # need many connections: call_log/test_bounds, server/test_connection
                    seen = await _provoke(guarded, client, method.upper(), path, status)
                    assert seen == status, f"{method.upper()} {path}"


async def test_a_defect_is_500_where_the_model_fails() -> None:
    async with client_of(make_app(classifier=classifier_with(WatchedScorer()))) as client:
        assert (await client.post("/prediction", json={"text": BAD})).status_code == 500


async def _provoke(guarded: Guarded, client: httpx.AsyncClient, method: str, path: str, status: int) -> int:
    """Send the request that should be answered with `status`; return the status that it got."""
    if status == 503:
        return await _unavailable(guarded, client, method, path)
    request, headers = _request(method, path), _headers(guarded, path, status)
    if method == "POST":
        request = _REQUESTS.get(status, request)
    elif status in _SUFFIXES:
        request, path = {}, path + _SUFFIXES[status]
    if status == 403 and path.startswith("/log"):
        path += "?caller=somebody-else"
    if status == 429:
        await client.request(method, path, **_with(request, headers))
    return (await client.request(method, path, **_with(request, headers))).status_code


def _headers(guarded: Guarded, path: str, status: int) -> dict[str, str]:
    """Return the key of an admin, or one that is unknown, or one for other routes."""
    if status == 401:
        return {"authorization": "Bearer tamis_wrong"}
    if status == 403:
        other = {"/log": "predict", "/log/summary": "predict"}  # theirs, but not everybody's
        return guarded.key(other.get(path, "log" if path == "/metrics" else "metrics"))
    return guarded.key("admin")


async def _unavailable(guarded: Guarded, client: httpx.AsyncClient, method: str, path: str) -> int:
    """Ask while the service stops, for readiness, and while its file of keys cannot be read."""
    headers = guarded.key("admin")
    if path == "/health/ready":
        guarded.is_draining = True
        answer = await client.get(path)
        guarded.is_draining = False
        return answer.status_code
    keys = guarded.folder / "keys.json"
    kept = keys.read_bytes()
    keys.write_bytes(b"no keys")
    guarded.clock.advance(5)
    answer = await client.request(method, path, **_with(_request(method, path), headers))
    keys.write_bytes(kept)
    return answer.status_code


def _request(method: str, path: str) -> dict[str, Any]:
    if method == "POST":
        return {"json": _BODIES[path]}
    return {"params": _QUERIES[path]} if path in _QUERIES else {}


def _with(request: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    return {**request, "headers": {**request.get("headers", {}), **headers}}
