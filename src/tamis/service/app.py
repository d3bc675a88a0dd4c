"""The application: a FastAPI application with telemetry and the fast path around it.

    request ─► telemetry ─► host ─► fast path ─► FastAPI: api/ (one module per concern)
                                         │                    │
                                         └────► Predictor ◄───┘ ─► Classification ─► cache, batcher, store

Assembled from explicit parts; nothing is made at import and nothing is global.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from tamis import __version__
from tamis.clock import Clock, SystemClock
from tamis.inference.batcher import Batcher
from tamis.inference.classifier import Classifier
from tamis.service.admission import callers, rate_limiter
from tamis.service.allowed_hosts import checking_hosts
from tamis.service.answer_cache import AnswerCache
from tamis.service.answers import error_answer, json_answer
from tamis.service.api.context import ApiContext, RequestLimits
from tamis.service.api.info import add_health_routes, add_info_routes, add_metrics_route
from tamis.service.api.log import add_log_routes
from tamis.service.api.pages import add_pages
from tamis.service.api.predictions import Predictor, add_prediction_routes
from tamis.service.api.strict_route import StrictRoute
from tamis.service.call_log.readers import LogReaders
from tamis.service.classify import Classification
from tamis.service.fast_path import FastPath
from tamis.service.observing.around import observed
from tamis.service.observing.metrics import Metrics
from tamis.service.rate_limit import RateLimiter
from tamis.service.retention import Retention
from tamis.settings import Settings
from tamis.storage import ResilientStore


def create_app(
    settings: Settings,
    classifier: Classifier,
    *,
    store: ResilientStore,
    clock: Clock | None = None,
    metrics_fd: int | None = None,
) -> Application:
    """Return the application that serves `classifier`; its lifespan opens and closes `store`.

    Processes with the same shared memory, `metrics_fd`, report the metrics of all of them. To mount it in
    another application, enter its lifespan there: `FastAPI(lifespan=app.router.lifespan_context)`.
    """
    clock = clock or SystemClock()
    metrics = Metrics(classifier, metrics_fd)
    store.count_in(metrics.calls)
    batcher = Batcher(
        classifier, clock, max_queue_seconds=settings.max_queue_seconds, report=metrics.batch_ended
    )
    cache = AnswerCache(
        classifier,
        store,
        clock,
        memory_rows=settings.cache_memory_rows,
        is_shared=settings.share_cache,
        count=metrics.looked_up,
    )
    classification = Classification(
        classifier, store, clock, batcher=batcher, cache=cache, observe_commit=metrics.store.observe
    )
    limiter = rate_limiter(settings, clock)
    context = ApiContext(
        callers(settings, clock),
        RequestLimits(settings.max_body_bytes, settings.max_text_chars, settings.max_texts),
        requires_keys=settings.require_keys,
        is_rate_limited=limiter is not None,
        observe_read=metrics.read.observe,
    )
    retention = Retention(store, clock, days=settings.log_retention_days)
    app = Application(
        settings.api_name,
        context,
        description=f"Classifies texts as {_listed(classifier.labels)}.",
        lifespan=_lifespan(store, classification, batcher, limiter, retention),
    )
    predictor = Predictor(classification, limiter=limiter, model_version=classifier.version)
    started_at = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
    add_prediction_routes(app.router, predictor, classifier, context.limits)
    add_log_routes(app.router, store, classification.this_hour, LogReaders(metrics.log_read))
    add_info_routes(app.router, classifier, api_name=settings.api_name, started_at=started_at)
    add_health_routes(app.router, classifier, store)
    add_metrics_route(app.router, metrics)
    add_pages(app.router)
    app.wrap(lambda inner: FastPath(inner, predictor, context, is_on=settings.fast_path))
    app.wrap(checking_hosts(settings.allowed_hosts))
    app.wrap(lambda inner: observed(inner, metrics, settings))
    return app


class Application(FastAPI):
    """FastAPI with our route class and error bodies, inside our own middleware.

    `FastAPI.add_middleware` would put the middleware behind two of FastAPI's own, which cost the fast
    path more than its own work.
    """

    def __init__(
        self,
        title: str,
        context: ApiContext,
        *,
        description: str = "",
        lifespan: Lifespan[FastAPI] | None = None,
    ):
        super().__init__(
            title=title,
            version=__version__,
            description=description,
            lifespan=lifespan,
            openapi_url=None,  # served by a route of ours, like everything else
            docs_url=None,
            redoc_url=None,
            openapi_tags=_TAGS,
            exception_handlers={HTTPException: self._not_routed},
            generate_unique_id_function=lambda route: route.name,
        )
        self.router.route_class = StrictRoute.bound(context)
        self.router.redirect_slashes = False
        self._outermost: ASGIApp = super().__call__
        self.router.get("/openapi.json", include_in_schema=False)(self._document)

    def wrap(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put a middleware around what there is."""
        self._outermost = middleware(self._outermost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        await self._outermost(scope, receive, send)

    async def _document(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        prefix = request.scope.get("root_path", "")
        return json_answer(self.openapi() | ({"servers": [{"url": prefix}]} if prefix else {}))

    async def _not_routed(self, request: Request, error: Exception) -> Response:
        """Return the response to a path or a method that has no route."""
        allowed = self._methods_at(request.scope)
        if not allowed:
            return error_answer("not_found", "path not found; see /docs")
        listed = ", ".join(sorted(allowed))
        message = f"method not allowed; use {listed}"
        return error_answer("method_not_allowed", message, [(b"allow", listed.encode())])

    def _methods_at(self, scope: Scope) -> set[str]:
        found: set[str] = set()
        for route in self.routes:
            if isinstance(route, StrictRoute) and route.matches(scope)[0] is Match.PARTIAL:
                found |= route.methods | ({"HEAD"} if "GET" in route.methods else set())
        return found


_TAGS = [
    {"name": "classification", "description": "Classify texts."},
    {"name": "call log", "description": "Your own calls: each text is logged once."},
    {"name": "info", "description": "The service and its model."},
    {"name": "health", "description": "For load balancers, orchestrators and monitoring."},
]


def _listed(labels: Sequence[str]) -> str:
    shown = [*labels[:10], *([f"{len(labels) - 10} more labels"] if len(labels) > 10 else [])]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _lifespan(
    store: ResilientStore,
    classification: Classification,
    batcher: Batcher,
    limiter: RateLimiter | None,
    retention: Retention,
) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open()
        retention.start()
        yield
        await retention.stop()
        await classification.finish()
        await batcher.close()
        await store.close()
        if limiter is not None:
            limiter.close()

    return lifespan
