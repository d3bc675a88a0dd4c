"""What is counted, named and logged of a request; asked in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tamis.inference.classifier import Classifier
from tamis.models.scorer import Scorer, Scores
from tamis.service.telemetry.logging import FIELDS
from tamis.settings import Settings
from tests.support.metrics_page import value
from tests.support.serving import client_of, make_app

Ask = Callable[[httpx.AsyncClient], Awaitable[Any]]


def _asked(app: ASGIApp, ask: Ask) -> Any:
    async def run() -> Any:
        async with client_of(app) as client:
            return await ask(client)

    return asyncio.run(run())


def _events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(found.getMessage(), getattr(found, FIELDS, {})) for found in caplog.records]


@pytest.mark.parametrize(
    "url", ["/", "/prediction?text=x", "/nowhere", "/docs/swagger-ui.css", "/log", "/metrics"]
)
def test_every_answer_has_its_id(url: str) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        sent = await client.get(url, headers={"x-request-id": "from-a-proxy"})
        assert sent.headers.get_list("x-request-id") == ["from-a-proxy"]
        made = [(await client.get(url)).headers["x-request-id"] for _ in range(2)]
        assert made[0] != made[1]

    _asked(make_app(), ask)


def test_requests_texts_and_refusals_are_counted_exactly() -> None:
    async def ask(client: httpx.AsyncClient) -> str:
        for text in ["one", "two", "one"]:
            await client.post("/prediction", json={"text": text})
        await client.post("/predictions", json={"texts": ["one", "three", "four"]})
        await client.get("/prediction", params={"text": "two", "skip_cache": "true"})
        await client.post("/prediction", json={"texts": "hunter2"})
        await client.get("/hunter2")
        await client.request("HUNTER2", "/prediction")
        return (await client.get("/metrics")).text

    page = _asked(make_app(), ask)
    assert "hunter2" not in page.lower()
    assert value(page, "http_requests_total", route="/prediction", method="POST", status="200") == 3
    assert value(page, "http_requests_total", route="/predictions", method="POST", status="200") == 1
    assert value(page, "http_requests_total", route="/prediction", method="POST", status="422") == 1
    assert value(page, "http_requests_total", route="/prediction", method="other", status="405") == 1
    assert value(page, "http_requests_total", route="other", method="GET", status="404") == 1
    assert value(page, "http_request_duration_seconds_count", route="/prediction") == 6
    assert value(page, "http_requests_in_progress") == 1, "the one that asks"
    assert value(page, "tamis_refusals_total", code="not_found") == 1
    assert value(page, "tamis_refusals_total", code="method_not_allowed") == 1
    assert value(page, "tamis_cache_hits_total", layer="memory") == 2
    assert value(page, "tamis_cache_misses_total") == 4
    assert value(page, "tamis_batch_texts_sum") == 5
    assert value(page, "tamis_calls_accepted_total") == value(page, "tamis_calls_written_total") == 7
    assert value(page, "tamis_stage_duration_seconds_count", stage="read") == 5
    assert value(page, "tamis_stage_duration_seconds_count", stage="store") == 5
    assert value(page, "tamis_stage_duration_seconds_count", stage="score") == value(
        page, "tamis_batch_texts_count"
    )
    assert value(page, "tamis_model_info", name="keywords", version="3", kind="mock", digest="f" * 64) == 1


def test_an_answer_from_the_store_is_a_hit_of_the_store() -> None:
    async def ask(client: httpx.AsyncClient) -> str:
        for text in ["one", "two", "one"]:
            await client.post("/prediction", json={"text": text})
        return (await client.get("/metrics")).text

    page = _asked(make_app(Settings(cache_memory_rows=0)), ask)
    assert value(page, "tamis_cache_hits_total", layer="store") == 1
    assert value(page, "tamis_cache_hits_total", layer="memory") == 0
    assert value(page, "tamis_cache_misses_total") == 2


async def test_a_request_whose_client_leaves_is_counted_as_unanswered() -> None:
    async def run() -> str:
        app = make_app()
        async with client_of(app) as client:
            task = asyncio.create_task(app(_scope(), asyncio.Event().wait, _nowhere))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return (await client.get("/metrics")).text

    page = await run()
    assert value(page, "http_requests_total", route="/prediction", method="POST", status="none") == 1
    assert value(page, "http_requests_in_progress") == 1


def test_nothing_is_logged_of_ordinary_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tamis")
    _asked(make_app(Settings(slow_seconds=60)), lambda client: client.get("/prediction?text=hunter2"))
    assert _events(caplog) == []


def test_slow_requests_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for _ in range(5):
            await client.get("/prediction?text=hunter2", headers={"x-request-id": "r1"})

    caplog.set_level(logging.INFO, "tamis")
    _asked(make_app(Settings(slow_seconds=0)), ask)
    [(event, fields)] = _events(caplog)
    assert event == "slow request"
    assert fields.pop("seconds") > 0
    assert fields == {
        "request_id": "r1", "method": "GET", "route": "/prediction", "status": 200, "caller": "192.0.2.7",
    }  # fmt: skip


def test_every_request_is_logged_where_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        await client.get("/hunter2?text=hunter2", headers={"authorization": "Bearer hunter2"})
        await client.post("/prediction", json={"hunter2": "hunter2"})
        await client.post("/prediction", json={"text": "hunter2"})

    caplog.set_level(logging.INFO, "tamis")
    _asked(make_app(Settings(access_log=True, slow_seconds=60)), ask)
    lines = [
        (event, fields["route"], fields["status"], fields.get("code")) for event, fields in _events(caplog)
    ]
    assert lines == [
        ("request", "other", 404, "not_found"),
        ("request", "/prediction", 422, "unknown_field"),
        ("request", "/prediction", 200, None),
    ]
    assert "hunter2" not in str(_events(caplog))


class _Broken(Scorer):
    def score(self, texts: Any) -> Scores:
        raise ValueError(f"cannot score {texts}")


def test_a_defect_is_logged_in_one_line_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, str]:
        return await client.get("/prediction?text=hunter2"), (await client.get("/metrics")).text

    broken = _FailsLater(("ham", "spam"))
    caplog.set_level(logging.INFO, "tamis")
    response, page = _asked(make_app(classifier=broken.classifier()), ask)
    assert response.status_code == 500
    [(_, fields)] = _events(caplog)
    assert fields["request_id"] == response.headers["x-request-id"]
    assert fields["request_id"] not in response.text
    assert "hunter2" not in str(fields) + caplog.text
    assert value(page, "tamis_refusals_total", code="internal_error") == 1


class _FailsLater(_Broken):
    """Answers the examples of the documentation, and fails on everything else."""

    def __init__(self, labels: tuple[str, ...]):
        self._inner = Classifier.mock(labels)

    def classifier(self) -> Classifier:
        return Classifier(self, self._inner.labels, name="broken", version="1", identity="0")

    def score(self, texts: Any) -> Scores:
        return super().score(texts) if "hunter2" in texts else self._inner.probabilities(texts)


def _scope() -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    return {
        "type": "http", "path": "/prediction", "method": "POST", "headers": headers, "query_string": b"",
        "client": ("192.0.2.7", 1), "state": {},
    }  # fmt: skip


async def _nowhere(message: Any) -> None:
    """Send to nobody."""
