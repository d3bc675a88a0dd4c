"""One HTTP/1.1 connection on uvicorn's fast parser, with limits on how long and how much.

uvicorn gives up a connection only when it idles between two requests: slow headers, slow bodies
and slow readers stay for ever. Here one sweep over all connections finds those; a request that is
sent and read at an ordinary pace pays nothing for it, no timer and no look at the clock.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tamis.service.answers import ErrorAnswer, error_answer
from tamis.service.server.farewell import Farewells

_BYTES_ACKED = struct.Struct("=120xQ")
"""Linux's struct tcp_info: how many bytes the peer's kernel has confirmed."""


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


class Connection(HttpToolsProtocol):
    """A connection that a sweep can find late.

    The sweep compares what it sees with what it saw the last time, so its deadlines are late by at
    most the time between two sweeps.
    """

    scope: Any  # None before the first request, which uvicorn's own annotations leave out
    cycle: Any

    def __init__(self, *args: Any, watch: Watch, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._watch = watch
        self._room = self._max_header_bytes = watch.limits.max_header_bytes
        self._seen: tuple[Phase, object] | None = None
        self._seen_since = 0.0
        self._reads_since = 0.0
        self._read_before: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where too many are open."""
        super().connection_made(transport)
        if len(self.connections) > self._watch.limits.max_connections:
            self._give_up(self._watch.too_many)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it makes the headers too large."""
        if len(data) > self._room and self._waits_for_headers() and b"\r\n\r\n" not in data[: self._room]:
            self._give_up(self._watch.headers_too_large)
            return
        super().data_received(data)
        if self.scope is None or self.cycle is None or self.cycle.scope is not self.scope:
            self._room -= len(data)
        else:
            self._room = self._max_header_bytes

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as every other error is answered."""
        self._give_up(self._watch.not_http)

    def shutdown(self) -> None:
        """Close, unless a request is being answered or has arrived and is not read yet."""
        if self._phase() is Phase.NEXT_REQUEST and not self._has_unread_bytes():
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    def give_up_if_late(self, now: float) -> None:
        """Close when a deadline has passed at `now`, the event loop's time."""
        self._give_up_slow_reader(now)
        seen = self._phase(), self.scope
        if self._seen is None or seen[0] is not self._seen[0] or seen[1] is not self._seen[1]:
            self._seen, self._seen_since = seen, now
        elif now - self._seen_since >= self._watch.seconds_in[seen[0]]:
            self._time_out(seen[0])

    def _phase(self) -> Phase:
        if self.cycle is None or self.cycle.scope is not self.scope:
            return Phase.HEADERS
        if self.cycle.response_complete:
            return Phase.NEXT_REQUEST
        return Phase.BODY if self.cycle.more_body else Phase.ANSWER

    def _waits_for_headers(self) -> bool:
        return self._phase() in (Phase.HEADERS, Phase.NEXT_REQUEST)

    def _time_out(self, phase: Phase) -> None:
        unanswered = self.cycle is None or not self.cycle.response_started or self.cycle.response_complete
        if phase is Phase.NEXT_REQUEST or self.scope is None:
            self.transport.close()
        elif unanswered:
            self._give_up(self._watch.too_slow)
        else:
            self.transport.abort()

    def _give_up_slow_reader(self, now: float) -> None:
        """Cut off a client whose answers wait in our memory while it reads next to nothing."""
        if not self.transport.get_write_buffer_size():
            self._read_before = None
            return
        read, elapsed = self._bytes_read(), now - self._reads_since
        if self._read_before is None or elapsed >= self._watch.limits.slow_read_seconds:
            least = self._watch.limits.min_read_bytes_per_second * elapsed
            if self._read_before is not None and read - self._read_before < least:
                self.transport.abort()
            self._read_before, self._reads_since = read, now

    def _bytes_read(self) -> int:
        """Count what the client has taken; without a kernel that knows, by what it has left."""
        if sys.platform == "linux" and self.server is not None:  # uvicorn's: no Unix socket
            info = self.transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size
            )
            [acked] = _BYTES_ACKED.unpack(info)
            return int(acked)
        return -self.transport.get_write_buffer_size()

    def _has_unread_bytes(self) -> bool:
        answer = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return any(answer)

    def _give_up(self, answer: ErrorAnswer) -> None:
        """Send a last answer in place of the application's, which is told that the client has left."""
        transport = self.transport
        self._unset_keepalive_if_required()
        self.connection_lost(ConnectionAbortedError())
        self._watch.count_refusal(answer.code)
        self._watch.farewells.say(answer, transport, now=self.loop.time())
