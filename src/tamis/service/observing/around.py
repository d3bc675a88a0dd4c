"""From the settings to everything that stands around the application and watches it."""

from __future__ import annotations

from starlette.types import ASGIApp

from tamis.errors import MissingExtraError
from tamis.service.observing.metrics import Metrics
from tamis.service.observing.observed import ObservedApplication
from tamis.settings import Settings


def observed(app: ASGIApp, metrics: Metrics, settings: Settings) -> ASGIApp:
    """Return `app` with its requests counted, timed and named; and traced, where the settings say so."""
    watched = ObservedApplication(
        app, metrics, slow_seconds=settings.slow_seconds, access_log=settings.access_log
    )
    return _traced(watched, settings.traces_endpoint) if settings.traces_endpoint else watched


def _traced(app: ASGIApp, endpoint: str) -> ASGIApp:
    try:  # imported here, for only those who want traces need to have OpenTelemetry
        from tamis.service.observing.traces import TracedApplication, otlp_provider
    except ModuleNotFoundError:
        raise MissingExtraError("TAMIS_TRACES_ENDPOINT", "otel") from None
    return TracedApplication(app, otlp_provider(endpoint))
