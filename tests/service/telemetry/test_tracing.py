"""The span of a request, gathered in memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tamis.service.telemetry.tracing import TracingMiddleware
from tests.support.serving import client_of, make_app

_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def _spans(method: str, url: str, **parts: Any) -> tuple[ReadableSpan, httpx.Response]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def run() -> httpx.Response:
        async with client_of(TracingMiddleware(make_app(), provider)) as client:
            return await client.request(method, url, **parts)

    response = asyncio.run(run())
    [span] = exporter.get_finished_spans()
    return span, response


def test_a_span_names_route_method_and_status() -> None:
    span, response = _spans("POST", "/prediction", json={"text": "hunter2"})
    assert response.status_code == 200
    assert (span.name, span.kind, span.parent) == ("POST /prediction", SpanKind.SERVER, None)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/prediction",
        "url.path": "/prediction",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_span_continues_the_trace_that_a_client_began() -> None:
    span, _ = _spans("GET", "/", headers={"traceparent": f"00-{_TRACE}-{_PARENT}-01"})
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == f"{_TRACE}-{_PARENT}"
    assert f"{span.context.trace_id:032x}" == _TRACE


def test_a_traceparent_that_is_none_begins_a_trace() -> None:
    span, response = _spans("GET", "/", headers={"traceparent": "hunter2"})
    assert (span.parent, response.status_code) == (None, 200)


def test_no_span_holds_what_a_caller_sent() -> None:
    span, response = _spans(
        "HUNTER2", "/hunter2?text=hunter2", headers={"x-request-id": "hunter2", "user-agent": "hunter2"}
    )
    assert response.status_code == 404
    assert span.name == "_OTHER"
    assert "hunter2" not in span.to_json().lower()


def test_tracing_asks_for_its_extra_where_that_is_missing() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from tamis.service.telemetry.middleware import with_telemetry\n"
        "from tamis.events import Events\n"
        "from tamis.inference.classifier import Classifier\n"
        "from tamis.settings import Settings\n"
        "with_telemetry(None, Events(), Settings(traces_endpoint='http://127.0.0.1:4318'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "MissingExtraError: TAMIS_TRACES_ENDPOINT needs an optional part of Tamis" in done.stderr
    assert "tamis[otel]" in done.stderr


def test_opentelemetry_is_not_imported_without_traces() -> None:
    script = (
        "import sys, tamis.service.app; sys.exit(any('opentelemetry.sdk' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("variables", "name"), [({}, "tamis"), ({"OTEL_SERVICE_NAME": "spam filter"}, "spam filter")]
)
def test_a_span_has_the_documented_service_name(variables: dict[str, str], name: str) -> None:
    script = (
        "from tamis.service.telemetry.tracing import otlp_provider\n"
        "print(otlp_provider('http://127.0.0.1:4318').resource.attributes['service.name'])"
    )
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain | variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == name
