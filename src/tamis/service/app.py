"""The application: a FastAPI application with telemetry and the fast path around it.

    request ─► telemetry ─► host ─► fast path ─► FastAPI: api/ (one module per concern)
                                         │                    │
                                         └────► Predictor ◄───┘ ─► ClassifyService ─► cache, batcher, store

Assembled from explicit parts; nothing is created at import and nothing is global.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.types import Lifespan

from tamis.clock import Clock, SystemClock
from tamis.events import Events
from tamis.inference.classifier import Classifier
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ModelLoader
from tamis.inference.shadow import Traffic
from tamis.service.api.application import Application
from tamis.service.api.browsers_and_proxies import PathNormalizer, allowing_origins
from tamis.service.api.drift import add_drift_route
from tamis.service.api.explanations import add_explanation_routes
from tamis.service.api.feedback import add_feedback_routes
from tamis.service.api.info import add_health_routes, add_info_routes, add_metrics_route
from tamis.service.api.keys import add_key_routes
from tamis.service.api.log import add_deletion_route, add_log_routes
from tamis.service.api.models import Broadcast, add_model_routes, no_broadcast
from tamis.service.api.pages import add_pages
from tamis.service.api.predictions import add_prediction_routes
from tamis.service.api.predictor import Predictor
from tamis.service.api.route import ApiContext, RequestLimits
from tamis.service.call_log.readers import LogReaders
from tamis.service.classify import ClassifyService
from tamis.service.dialects.base import DialectService
from tamis.service.dialects.catalog import chosen_dialects
from tamis.service.dialects.routes import DialectFastPath, add_dialects
from tamis.service.drift import DriftMonitor
from tamis.service.fast_path import FastPath
from tamis.service.feedback import FeedbackService
from tamis.service.log_text import LOG_TEXTS
from tamis.service.prediction_cache import LayeredPredictionCache
from tamis.service.retention import Retention
from tamis.service.security.allowed_hosts import checking_hosts
from tamis.service.security.api_keys import KeyFile
from tamis.service.security.rate_limit import RateLimiter
from tamis.service.telemetry.metrics import Metrics
from tamis.service.telemetry.middleware import with_telemetry
from tamis.service.wiring import callers, drift_monitor, rate_limiter
from tamis.settings import Settings
from tamis.storage import ResilientStore

# how soon a worker notices a canary or shadow that another process started or stopped
_WATCH_SECONDS = 0.2

Models = Classifier | Mapping[str, str]
"""One loaded model; or references such as `models/spam@champion`, the default first, each with the version to
load, empty for the one that the reference names."""


def create_app(
    settings: Settings,
    models: Models,
    *,
    store: ResilientStore,
    clock: Clock | None = None,
    metrics_fd: int | None = None,
    broadcast: Broadcast = no_broadcast,
) -> Application:
    """Return the application that serves `models`; its lifespan opens and closes `store`.

    Processes with the same shared memory, `metrics_fd`, report the metrics of all of them; `broadcast` makes
    the other processes load or unload a version. To mount it in another application, enter its lifespan
    there: `FastAPI(lifespan=app.router.lifespan_context)`.
    """
    clock = clock or SystemClock()
    events, metrics = Events(), Metrics(metrics_fd)
    metrics.subscribe_to(events)  # before the parts are made: loading the models emits events
    pool = _pool(settings, models, clock, events)
    metrics.models = lambda: pool.loaded_models
    store.emit_to(events, since=metrics.counters)  # a replacement continues the counts of its predecessor
    cache = _cache(settings, store, clock, events)
    log_text = LOG_TEXTS[settings.log_texts]
    classification = ClassifyService(store, clock, cache=cache, events=events, log_text=log_text)
    drift = drift_monitor(settings, pool, clock)
    drift.subscribe_to(events)
    metrics.drift = drift.reports
    limiter = rate_limiter(settings, clock)
    context = _context(settings, clock, events, is_rate_limited=limiter is not None)
    traffic = Traffic(pool, clock, directory=settings.traffic_directory)
    metrics.traffic = traffic.reports
    background = _Background(traffic, drift, Retention(settings, store, clock), limiter)
    app = Application(
        settings.api_name,
        context,
        description=f"Classifies texts as {_listed(pool.default.classifier.labels)}.",
        lifespan=_lifespan(store, pool, classification, background),
    )
    app.pool = pool
    predictor = Predictor(pool, classification, limiter=limiter, traffic=traffic)
    started_at = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
    add_prediction_routes(app.router, predictor, context.limits)
    add_explanation_routes(app, predictor, context.limits)
    feedback = FeedbackService(pool, store, clock, log_text=log_text)
    metrics.feedback = lambda: [one.as_dict() for one in feedback.accuracies]
    add_model_routes(
        app.router, predictor, context.limits, broadcast=broadcast, feedback=feedback, traffic=traffic
    )
    add_drift_route(app.router, pool, drift, settings)
    readers = LogReaders(events)
    add_log_routes(app.router, store.log, classification.this_hour, readers)
    add_key_routes(app.router, KeyFile(settings.keys_path), clock)
    add_deletion_route(app.router, store, readers, limiter)
    add_feedback_routes(app.router, feedback, store.feedback, readers, limits=context.limits, limiter=limiter)
    add_info_routes(app.router, pool, api_name=settings.api_name, started_at=started_at)
    add_health_routes(app.router, pool, store)
    add_metrics_route(app.router, metrics, feedback)
    add_pages(app.router)
    dialects = DialectService(predictor, context.limits, clock, metrics, broadcast, started_at)
    add_dialects(app, chosen_dialects(settings.dialects), dialects)
    _wrap(app, predictor, context, settings)
    return app


def _wrap(app: Application, predictor: Predictor, context: ApiContext, settings: Settings) -> None:
    """Add the middleware; the last one is the outermost."""
    # the fast paths inside of the host check and CORS, so that no route can bypass these
    app.wrap(lambda inner: DialectFastPath(inner, app.routes, is_on=settings.fast_path))
    app.wrap(lambda inner: FastPath(inner, predictor, context, is_on=settings.fast_path))
    app.wrap(allowing_origins(settings.cors_origins))
    app.wrap(checking_hosts(settings.allowed_hosts))
    app.wrap(lambda inner: with_telemetry(inner, context.events, settings))  # also sees what these refuse
    # outermost: telemetry and the fast paths look routes up by the normalised path
    app.wrap(lambda inner: PathNormalizer(inner, settings.root_path))


def _context(settings: Settings, clock: Clock, events: Events, *, is_rate_limited: bool) -> ApiContext:
    return ApiContext(
        callers(settings, clock),
        RequestLimits(settings.max_body_bytes, settings.max_text_chars, settings.max_texts),
        requires_keys=settings.require_keys,
        is_rate_limited=is_rate_limited,
        events=events,
    )


def _cache(settings: Settings, store: ResilientStore, clock: Clock, events: Events) -> LayeredPredictionCache:
    return LayeredPredictionCache(
        store.cache,
        clock,
        memory_rows=settings.cache_memory_rows,
        is_shared=settings.share_cache,
        events=events,
    )


def _pool(settings: Settings, models: Models, clock: Clock, events: Events) -> ModelPool:
    loader = ModelLoader(clock, settings.max_queue_seconds, events)
    pool = ModelPool(loader, max_bytes=settings.models_max_bytes)
    if isinstance(models, Classifier):
        pool.add_classifier(models)
    else:
        for reference, version in models.items():
            pool.open(reference, version, is_lazy=settings.lazy_models)
    return pool


def _listed(labels: Sequence[str]) -> str:
    # the first ten: some models have thousands of labels
    shown = [*labels[:10], *([f"{len(labels) - 10} more labels"] if len(labels) > 10 else [])]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


@dataclass(frozen=True)
class _Background:
    """The tasks that run beside the requests, and the rate limiter, which is closed after them."""

    traffic: Traffic
    drift: DriftMonitor
    retention: Retention
    limiter: RateLimiter | None


def _lifespan(
    store: ResilientStore, pool: ModelPool, classification: ClassifyService, background: _Background
) -> Lifespan[FastAPI]:
    traffic, drift, retention = background.traffic, background.drift, background.retention

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open()  # first: the other parts read it
        retention.start()
        await traffic.refresh()
        jobs = [pool.watch(), traffic.watch(_WATCH_SECONDS), drift.watch()]
        watching = [asyncio.create_task(job) for job in jobs]
        yield
        for task in watching:
            task.cancel()
        # in this order: batches still predict and log, so the models and the store are closed last
        await retention.stop()
        await classification.finish()
        await drift.close()
        await traffic.close()
        await pool.close()
        await store.close()
        if background.limiter is not None:
            background.limiter.close()

    return lifespan
