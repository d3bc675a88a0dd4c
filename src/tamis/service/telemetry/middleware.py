"""Around the whole application: gives each request its id, counts and times it, logs what deserves a line.

Reads routes and statuses; never a body or a query.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.errors import MissingExtraError
from tamis.events import Events, RequestFinished, RequestStarted
from tamis.service.request_body import BODY_SECONDS, HEADERS
from tamis.service.responses import ERROR_CODE, EVENTS
from tamis.service.security.client_identity import CALLER
from tamis.service.telemetry.logging import FIELDS
from tamis.service.telemetry.metric_definitions import METHODS, OTHER, route_of
from tamis.settings import Settings

REQUEST_ID = "tamis.request_id"
"""Key of the request id in an ASGI scope; the value is bytes."""

HEADER = b"x-request-id"

_PLAUSIBLE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
"""What proxies and tracing tools make: nothing that could break a header, a line or a page."""

_PREFIX_BYTES = 6  # 2⁴⁸ values: two processes of a fleet practically never share one


class RequestIds:
    """Accepts the request id of the client, or creates one: a prefix of this process and a number."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom):
        self._prefix = random_bytes(_PREFIX_BYTES).hex().encode()
        self._next = count(1).__next__

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the id that a client sent, or a new one that no other process and no other request has."""
        sent = headers.get(HEADER)
        if sent is not None and _PLAUSIBLE.fullmatch(sent):
            return sent
        return b"%s-%x" % (self._prefix, self._next())


_LINE_SECONDS = 1.0
"""Minimum time between two log lines of one kind; the line has the number of them in `alike`."""

_LOGGED_BEFORE = "internal_error"
"""An unhandled exception is logged where it was caught, with its stack."""

_STARTED = RequestStarted()

DIALECT = "tamis.dialect"
"""Key of the name of the dialect in an ASGI scope, if the route belongs to one."""

TRACE_ID = "tamis.trace_id"
"""Key of the trace id in an ASGI scope, if the request is traced."""

_log = logging.getLogger(__name__)


@final
class TelemetryMiddleware:
    """Middleware that times, names and logs each request, and emits its start and its end."""

    def __init__(self, app: ASGIApp, events: Events, *, slow_seconds: float, access_log: bool):
        self._app, self._events = app, events
        # called directly: `emit` would cost every request two more calls
        self._on_started, self._on_finished = (
            events.subscribers(RequestStarted),
            events.subscribers(RequestFinished),
        )
        self._slow_seconds, self._access_log = slow_seconds, access_log
        self._ids = RequestIds()
        self._failures, self._slow = _Throttle(), _Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan" and "state" in scope:
                scope["state"][EVENTS] = self._events
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        for on_started in self._on_started:
            on_started(_STARTED)  # one object for all requests: it has no fields
        # made once, for all that look for a header; the application may be mounted in another one
        headers = scope[HEADERS] = dict(reversed(scope["headers"]))
        request_id = scope[REQUEST_ID] = self._ids.of(headers)
        status = 0  # stays 0 if the client disconnects before the response

        def observed_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                nonlocal status
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, request_id)]
            return send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:  # a cancelled or failed request is counted, too
            seconds = perf_counter() - began
            found = scope.get
            finished = RequestFinished(
                route_of(scope),
                scope["method"],
                status,
                seconds,
                found(ERROR_CODE),
                found(DIALECT),
                found(BODY_SECONDS),
            )
            for on_finished in self._on_finished:
                on_finished(finished)
            if status >= 400 or seconds >= self._slow_seconds or self._access_log:
                self._log_request(scope, status, seconds)

    def _log_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Log a failed or slow request, or with an access log any, in one line."""
        if scope.get(ERROR_CODE) == _LOGGED_BEFORE and not self._access_log:
            return
        if status >= 500:
            level, event, throttle = logging.ERROR, "request failed", self._failures
        elif seconds >= self._slow_seconds:
            level, event, throttle = logging.WARNING, "slow request", self._slow
        else:
            level, event, throttle = logging.INFO, "request", _SILENCE
        alike = 1 if self._access_log else throttle.count(perf_counter())
        if alike:
            _log.log(level, event, extra={FIELDS: _fields(scope, status, seconds, alike)})


def _fields(scope: Scope, status: int, seconds: float, alike: int) -> dict[str, object]:
    """Return a request's log fields: its route, not its path, which may contain anything."""
    fields: dict[str, object] = {
        "request_id": scope[REQUEST_ID].decode("ascii"),
        "method": scope["method"] if scope["method"] in METHODS else OTHER,
        "route": route_of(scope),
        "status": status,
        "seconds": round(seconds, 6),
    }
    if CALLER in scope:
        fields["caller"] = scope[CALLER].logged_as
    if ERROR_CODE in scope:
        fields["code"] = scope[ERROR_CODE]
    if TRACE_ID in scope:
        fields["trace_id"] = scope[TRACE_ID]
    if alike > 1:
        fields["alike"] = alike
    return fields


@dataclass(slots=True)
class _Throttle:
    """Limits log lines of one kind, and counts those that are left out."""

    quiet_until: float = float("-inf")
    held_back: int = 0

    def count(self, now: float) -> int:
        """Return how many events the next line reports, this one included; 0 if none is due."""
        self.held_back += 1
        if now < self.quiet_until:
            return 0
        self.quiet_until, alike, self.held_back = now + _LINE_SECONDS, self.held_back, 0
        return alike


_SILENCE = _Throttle(quiet_until=float("inf"))


def with_telemetry(app: ASGIApp, events: Events, settings: Settings) -> ASGIApp:
    """Wrap `app` in telemetry: events, request ids, access log, and traces if they are configured."""
    watched = TelemetryMiddleware(
        app, events, slow_seconds=settings.slow_seconds, access_log=settings.access_log
    )
    return _traced(watched, settings.traces_endpoint) if settings.traces_endpoint else watched


def _traced(app: ASGIApp, endpoint: str) -> ASGIApp:
    try:  # imported here, for only those who want traces need to have OpenTelemetry
        from tamis.service.telemetry.tracing import TracingMiddleware, otlp_provider
    except ModuleNotFoundError:
        raise MissingExtraError("TAMIS_TRACES_ENDPOINT", "otel") from None
    return TracingMiddleware(app, otlp_provider(endpoint))
