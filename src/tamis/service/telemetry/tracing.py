"""OpenTelemetry traces: one span per request, by the semantic conventions for HTTP.

Needs the extra `otel` and is imported only if TAMIS_TRACES_ENDPOINT is set. No span contains a text, a path
that is not a route, a query, a header or a caller.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis import __version__
from tamis.service.responses import ERROR_CODE
from tamis.service.telemetry.metric_definitions import METHODS, OTHER, route_of
from tamis.service.telemetry.middleware import TRACE_ID

_EXPORT_SECONDS = 3.0
"""Timeout of one export, retries included: an unreachable collector delays the shutdown by no more."""


def otlp_provider(endpoint: str) -> TracerProvider:
    """Return a provider that sends spans over OTLP/HTTP to a collector at `endpoint`, from its own thread.

    The last spans are sent when the process ends. Everything else is configured by OpenTelemetry's variables,
    such as OTEL_TRACES_SAMPLER and OTEL_SERVICE_NAME.
    """
    # the detector reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which win over our defaults; merging
    # with a plain `Resource.create()` would replace our name by its own default, `unknown_service`
    ours = {SERVICE_NAME: "tamis", SERVICE_VERSION: __version__}
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


@final
class TracingMiddleware:
    """Run each request of `app` in a span that continues the trace of the header `traceparent`."""

    def __init__(self, app: ASGIApp, provider: TracerProvider):
        self._app = app
        self._tracer = provider.get_tracer("tamis", __version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # `_OTHER` is the convention's own value; an unbounded span name could contain a client's text
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        route = route_of(scope)
        attributes = _attributes(scope, method, route)
        span = self._tracer.start_span(
            method if route == OTHER else f"{method} {route}",
            context=self._propagator.extract(scope["headers"], getter=_HEADERS),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        scope[TRACE_ID] = format_trace_id(span.get_span_context().trace_id)

        def traced_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                _record_status(span, scope, message["status"])
            return send(message)

        # an exception's message may contain a text: the span records the error code and status only
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            await self._app(scope, receive, traced_send)


def _attributes(scope: Scope, method: str, route: str) -> dict[str, str]:
    attributes = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if route != OTHER:
        attributes |= {"http.route": route, "url.path": route}
    return attributes


def _record_status(span: Span, scope: Scope, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:  # by the conventions, a 4xx is not an error of the server's span
        span.set_attribute("error.type", scope.get(ERROR_CODE, str(status)))
        span.set_status(Status(StatusCode.ERROR))


class _Headers(Getter[Any]):
    """Reads the headers of an ASGI scope."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        name = key.encode("ascii")
        return [value.decode("latin-1") for found, value in carrier if found == name] or None

    def keys(self, carrier: Any) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_HEADERS = _Headers()
