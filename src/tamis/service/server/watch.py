"""What the connections of one process share: how long each may take for what, and who was sent away.

Knows no parser and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tamis.service.answers import error_answer
from tamis.service.server.farewell import Farewells


class Phase(Enum):
    """What a connection waits for."""

    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"
    NEXT_REQUEST = "next request"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How much one client may hold, and for how long; all seconds are monotonic."""

    max_connections: int
    max_header_bytes: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    slow_read_seconds: float
    min_read_bytes_per_second: int


class Watch:
    """What the connections of one process share: their limits, and those that were sent away."""

    def __init__(self, limits: ConnectionLimits):
        self.limits = limits
        self.farewells = Farewells()
        self.count_refusal: Callable[[str], None] = lambda code: None
        self.seconds_in = {
            Phase.HEADERS: limits.header_seconds,
            Phase.BODY: limits.body_seconds,
            Phase.ANSWER: float("inf"),
            Phase.NEXT_REQUEST: limits.keep_alive_seconds,
        }
        self.too_many = error_answer(
            "too_many_connections", "too many connections are open; try again later", [(b"retry-after", b"1")]
        )
        self.headers_too_large = error_answer(
            "headers_too_large", f"the headers are larger than {limits.max_header_bytes} bytes"
        )
        self.too_slow = error_answer("too_slow", "the request did not arrive in time")
        self.not_http = error_answer("not_http", "this is not a request in HTTP/1.1")

    def sweep(self, connections: Iterable[Any], now: float) -> None:
        """Give up every connection that is late; call it regularly, `now` is the event loop's time."""
        for connection in list(connections):
            connection.give_up_if_late(now)
        self.farewells.sweep(now)
