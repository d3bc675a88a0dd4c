"""The routes that describe the service, its model and its health, and `/metrics`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from msgspec import to_builtins
from starlette.responses import Response

from tamis.inference.classifier import Classifier
from tamis.inference.model_pool import ModelPool
from tamis.service.api.route import Requires
from tamis.service.bodies import HealthResponse, ModelResponse, ServiceResponse
from tamis.service.feedback import FeedbackService
from tamis.service.http import is_draining
from tamis.service.responses import BytesResponse, json_response
from tamis.service.security.client_identity import ANY_KEY, CALLER, METRICS, OPTIONAL_KEY
from tamis.service.telemetry.exposition import CONTENT_TYPE
from tamis.service.telemetry.metrics import Metrics
from tamis.storage import ResilientStore

_METRICS_HEADERS = [(b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store")]
_METRICS_EXAMPLE = {"text/plain": {"schema": {"type": "string"}, "example": "tamis_workers 2\n"}}


def add_info_routes(router: APIRouter, pool: ModelPool, *, api_name: str, started_at: datetime) -> None:
    """Add `/` and `/model` to the application's router."""

    @router.get(
        "/",
        response_model=ServiceResponse,
        summary="Service information",
        tags=["info"],
        dependencies=[Depends(Requires(OPTIONAL_KEY))],
    )
    async def service_info(request: Request) -> Response:
        return json_response(
            {
                "api_name": api_name,
                "caller_id": request.scope[CALLER].name,
                "is_admin": request.scope[CALLER].is_admin,
                "model_name": pool.default.name,
                "model_version": pool.default.version,
                "started_at": started_at,
                "docs": "/docs",
                "page": "/ui",
                "status": "alive",
            }
        )

    @router.get(
        "/model",
        response_model=ModelResponse,
        summary="Model information",
        tags=["info"],
        dependencies=[Depends(Requires(ANY_KEY))],
    )
    async def model_info() -> Response:
        return json_response(described(pool.default.classifier))


def add_health_routes(router: APIRouter, pool: ModelPool, store: ResilientStore) -> None:
    """Add the health checks to the application's router."""

    # /healthz and /health are the names that Kubernetes and load balancers are often configured with
    @router.get("/healthz", response_model=HealthResponse, include_in_schema=False)
    @router.get("/health/live", response_model=HealthResponse, summary="Liveness", tags=["health"])
    async def live() -> Response:
        # nothing else is checked: restarting a service does not help a failing store
        return _health("live", "the event loop answers")

    @router.get("/health", response_model=HealthResponse, include_in_schema=False)
    @router.get(
        "/health/ready",
        response_model=HealthResponse,
        summary="Readiness",
        tags=["health"],
        responses={503: {"model": HealthResponse, "description": "The service is stopping."}},
    )
    async def ready(request: Request) -> Response:
        """Without its store the service still answers, so `degraded` is 200, too."""
        # 503 while draining: a load balancer stops sending requests before the sockets close
        if is_draining(request.scope):
            return _health("stopping", "the service is shutting down", status_code=503)
        loaded = f"model {pool.default.name}@{pool.default.version} is loaded"
        if store.is_degraded:
            why = "the store fails" if store.fault else "the store works again"
            return _health("degraded", f"{loaded}; {why}, {store.counters.spooled} calls wait for it")
        return _health("ready", loaded)


def add_metrics_route(router: APIRouter, metrics: Metrics, feedback: FeedbackService) -> None:
    """Add `/metrics` to the application's router."""

    @router.get(
        "/metrics",
        summary="Metrics of all workers in Prometheus's text format",
        tags=["health"],
        response_class=Response,
        responses={200: {"content": _METRICS_EXAMPLE}},
        dependencies=[Depends(Requires(METRICS))],
    )
    async def prometheus() -> Response:
        await feedback.count()  # at most every ten seconds; the page itself reads no store
        return BytesResponse(200, _METRICS_HEADERS, metrics.page())


def described(classifier: Classifier) -> dict[str, Any]:
    """Return the public part of a model's manifest: without its files."""
    manifest = classifier.manifest
    return {
        "name": classifier.name,
        "version": classifier.version,
        "digest": classifier.identity,
        "kind": manifest.kind if manifest else "mock",
        "labels": list(classifier.labels),
        "operating_point": to_builtins(manifest.operating_point) if manifest else None,
        "metrics": manifest.metrics if manifest else {},
        "training": manifest.training if manifest else {},
        "network": classifier.network,
    }


def _health(status: str, reason: str, *, status_code: int = 200) -> Response:
    return json_response({"status": status, "reason": reason}, status=status_code)
