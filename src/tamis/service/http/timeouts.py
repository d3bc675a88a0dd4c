"""Timeouts: how long a connection may stay in each state, checked by one sweep over all connections."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tamis.events import Events
from tamis.service.http.lingering_close import LingeringClose
from tamis.service.responses import ErrorResponse, error_response
from tamis.service.telemetry.logging import FIELDS, error_fields

_log = logging.getLogger(__name__)


class ConnectionState(Enum):
    """What a connection is waiting for."""

    HEADERS = "headers"
    BODY = "body"
    RESPONSE = "response"
    NEXT_REQUEST = "next request"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a connection's size and time; seconds are of the monotonic clock."""

    max_connections: int
    max_header_bytes: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    slow_read_seconds: float
    min_read_bytes_per_second: int


class ConnectionMonitor:
    """Limits shared by the connections of one process, and the connections in lingering close."""

    def __init__(self, limits: ConnectionLimits):
        self.limits = limits
        self.lingering = LingeringClose()
        self.events = Events()  # replaced by the application's once that has started
        self.seconds_in = {
            ConnectionState.HEADERS: limits.header_seconds,
            ConnectionState.BODY: limits.body_seconds,
            ConnectionState.RESPONSE: float("inf"),  # no limit: a response may take as long as it needs
            ConnectionState.NEXT_REQUEST: limits.keep_alive_seconds,
        }
        # built once: under a flood of connections each rejection should cost as little as possible
        self.too_many = error_response(
            "too_many_connections", "too many connections are open; try again later", [(b"retry-after", b"1")]
        )
        self.too_slow = error_response("too_slow", "the request did not arrive in time")
        self.errors = _request_errors(limits.max_header_bytes)

    def sweep(self, connections: Iterable[Any], now: float) -> None:
        """Close every connection past its deadline; `now` is the event loop's time. Call it regularly.

        An error on one connection is logged and closes that one: the others keep their deadlines.
        """
        for connection in list(connections):  # a copy: closing removes from the set
            try:
                connection.close_if_late(now)
            except Exception as error:  # noqa: BLE001 - the sweep runs on the server's only timer
                _log.error("connection check failed", extra={FIELDS: error_fields(error)})
                connection.transport.abort()
        self.lingering.sweep(now)


def _request_errors(max_header_bytes: int) -> dict[str, ErrorResponse]:
    """Return the responses to invalid requests, by the parser's reason."""
    too_large = (
        f"the headers, a chunk header or the trailers are larger than {max_header_bytes} bytes or too many"
    )
    return {
        "headers_too_large": error_response("headers_too_large", too_large),
        "body_too_large": error_response("body_too_large", "the body is too large"),
        "not_http": error_response("not_http", "not an HTTP/1.1 request"),
        "wrong_host": error_response("not_http", "the request must have exactly one header `host`"),
        "wrong_version": error_response("not_http", "the request line must name HTTP/1.1 or HTTP/1.0"),
        "unknown_coding": error_response(
            "unknown_coding", "the only transfer coding is `chunked`; send the body without another"
        ),
    }
