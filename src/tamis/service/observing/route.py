"""`GET /metrics`, and what the OpenAPI document says of it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope

from tamis.service.answers import Answer
from tamis.service.observing.exposition import CONTENT_TYPE
from tamis.service.observing.metrics import Metrics
from tamis.service.openapi_parts import Json, content, head, ref
from tamis.service.routing import Handler

_HEADERS = [(b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store")]


def metrics_handlers(metrics: Metrics) -> dict[str, dict[str, Handler]]:
    """Return the handlers, by path and method."""

    async def get(scope: Scope, receive: Receive) -> ASGIApp:
        return Answer(200, _HEADERS, metrics.page())

    return {"/metrics": {"GET": get}}


def metrics_paths() -> Json:
    """Return the part of the OpenAPI document."""
    page = {"text/plain": {"schema": {"type": "string"}, "example": "tamis_workers 2\n"}}
    return {
        "/metrics": {
            "get": {
                **head("health", "metrics", "Counts and times of all workers, in Prometheus's text format"),
                "responses": {
                    "200": {"description": "Done.", "content": page},
                    "500": {"description": "The service failed.", **content(ref("ErrorBody"))},
                },
            }
        }
    }
