"""The application: a FastAPI application with telemetry and the fast path around it.

    request ─► telemetry ─► host ─► fast path ─► FastAPI: api/ (one module per concern)
                                         │                    │
                                         └────► Predictor ◄───┘ ─► ClassifyService ─► cache, batcher, store

Assembled from explicit parts; nothing is made at import and nothing is global.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.types import Lifespan

from tamis.clock import Clock, SystemClock
from tamis.inference.batcher import Batcher
from tamis.inference.classifier import Classifier
from tamis.service.api.application import Application
from tamis.service.api.info import add_health_routes, add_info_routes, add_metrics_route
from tamis.service.api.log import add_log_routes
from tamis.service.api.pages import add_pages
from tamis.service.api.predictions import Predictor, add_prediction_routes
from tamis.service.api.route import ApiContext, RequestLimits
from tamis.service.call_log.readers import LogReaders
from tamis.service.classify import ClassifyService
from tamis.service.fast_path import FastPath
from tamis.service.prediction_cache import LayeredPredictionCache
from tamis.service.retention import Retention
from tamis.service.security.allowed_hosts import checking_hosts
from tamis.service.security.rate_limit import RateLimiter
from tamis.service.telemetry.metrics import Metrics
from tamis.service.telemetry.middleware import with_telemetry
from tamis.service.wiring import callers, rate_limiter
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
    cache = LayeredPredictionCache(
        classifier,
        store.cache,
        clock,
        memory_rows=settings.cache_memory_rows,
        is_shared=settings.share_cache,
        count=metrics.looked_up,
    )
    classification = ClassifyService(
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
    retention = Retention(store.log, clock, days=settings.log_retention_days)
    app = Application(
        settings.api_name,
        context,
        description=f"Classifies texts as {_listed(classifier.labels)}.",
        lifespan=_lifespan(store, classification, batcher, limiter, retention),
    )
    predictor = Predictor(classification, limiter=limiter, model_version=classifier.version)
    started_at = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
    add_prediction_routes(app.router, predictor, classifier, context.limits)
    add_log_routes(app.router, store.log, classification.this_hour, LogReaders(metrics.log_read))
    add_info_routes(app.router, classifier, api_name=settings.api_name, started_at=started_at)
    add_health_routes(app.router, classifier, store)
    add_metrics_route(app.router, metrics)
    add_pages(app.router)
    app.wrap(lambda inner: FastPath(inner, predictor, context, is_on=settings.fast_path))
    app.wrap(checking_hosts(settings.allowed_hosts))
    app.wrap(lambda inner: with_telemetry(inner, metrics, settings))
    return app


def _listed(labels: Sequence[str]) -> str:
    shown = [*labels[:10], *([f"{len(labels) - 10} more labels"] if len(labels) > 10 else [])]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _lifespan(
    store: ResilientStore,
    classification: ClassifyService,
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
