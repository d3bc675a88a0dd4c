"""The application, assembled from explicit parts. Nothing is made at import and nothing is global."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from starlette.routing import Router
from starlette.types import ASGIApp, Lifespan

from tamis.clock import Clock, SystemClock
from tamis.inference.batcher import Batcher
from tamis.inference.classifier import Classifier
from tamis.service.admission import callers, rate_limiter
from tamis.service.answer_cache import AnswerCache
from tamis.service.answers import json_answer
from tamis.service.call_log.routes import LogRoutes, log_handlers
from tamis.service.classify import Classification
from tamis.service.docs import docs_handlers
from tamis.service.observing.around import observed
from tamis.service.observing.metrics import Metrics
from tamis.service.observing.route import metrics_handlers
from tamis.service.openapi import openapi_document
from tamis.service.openapi_access import add_keys, add_limits
from tamis.service.page.files import page_handlers
from tamis.service.rate_limit import RateLimiter
from tamis.service.requests import Limits, RequestReader
from tamis.service.retention import Retention
from tamis.service.routes import InfoRoutes, PredictionRoutes, info_handlers, prediction_handlers
from tamis.service.routing import Application, always, in_tasks
from tamis.settings import Settings
from tamis.storage import ResilientStore


def create_app(
    settings: Settings,
    classifier: Classifier,
    *,
    store: ResilientStore,
    clock: Clock | None = None,
    metrics_directory: Path | None = None,
) -> ASGIApp:
    """Return the ASGI application that serves `classifier`; its lifespan opens and closes `store`.

    Processes with the same `metrics_directory` show the metrics of all of them.
    """
    clock = clock or SystemClock()
    metrics = Metrics(classifier, metrics_directory)
    store.count_in(metrics.calls)
    limits = Limits(settings.max_body_bytes, settings.max_text_chars, settings.max_texts)
    batcher = Batcher(
        classifier, clock, max_queue_seconds=settings.max_queue_seconds, report=metrics.batch_ended
    )
    cache = AnswerCache(
        classifier,
        store,
        clock,
        memory_rows=settings.cache_memory_rows,
        count=metrics.looked_up,
    )
    classification = Classification(
        classifier,
        store,
        clock,
        batcher=batcher,
        cache=cache,
        observe_commit=metrics.store.observe,
    )
    limiter = rate_limiter(settings, clock)
    predictions = PredictionRoutes(
        classification,
        RequestReader(limits, metrics.read.observe),
        limiter=limiter,
        model_version=classifier.version,
    )
    started_at = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
    info = InfoRoutes(classifier, store, api_name=settings.api_name, started_at=started_at)
    document = openapi_document(classifier, api_name=settings.api_name, limits=limits)
    if settings.require_keys:
        add_keys(document)
    if limiter is not None:
        add_limits(document)
    retention = Retention(store, clock, days=settings.log_retention_days)
    others = {
        **info_handlers(info),
        **log_handlers(LogRoutes(store, classification.this_hour)),
        **metrics_handlers(metrics),
        "/openapi.json": {"GET": always(json_answer(document))},
        **{path: {"GET": handler} for path, handler in (docs_handlers() | page_handlers()).items()},
    }
    app = Application(
        {**prediction_handlers(predictions), **in_tasks(others)},
        callers(settings, clock),
        _lifespan(store, classification, batcher, limiter, retention),
    )
    return observed(app, metrics, settings)


def _lifespan(
    store: ResilientStore,
    classification: Classification,
    batcher: Batcher,
    limiter: RateLimiter | None,
    retention: Retention,
) -> Lifespan[Router]:
    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[None]:
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
