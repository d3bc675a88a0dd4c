"""One HTTP/1.1 connection on uvicorn's fast parser, with limits on how long and how much.

uvicorn times out only connections that idle between two requests; slow headers, slow bodies and slow
readers have no timeout. Here one periodic sweep over all connections closes those. A request at an
ordinary pace costs no timer and no clock call.

Requests are answered one at a time, in order. What arrives meanwhile waits, a slice of it as parsed
requests and the rest as bytes; an error is answered after the requests before it:

    data_received -> _receive (slice by slice) -> on_headers_complete -> _start or _waiting
    _on_complete  -> next of _waiting, or else _receive(_unparsed), or else the final error
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from collections import deque
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from tamis.events import ConnectionRejected
from tamis.service.eager_task import RequestRun
from tamis.service.http import STREAMED_BODY
from tamis.service.http.cycle import CountingFlow, RequestResponseCycle
from tamis.service.http.reading_speed import ReadingSpeed
from tamis.service.http.request_parser import (
    CREDIT_PER_BODY_BYTE,
    HEAD_SLICE_BYTES,
    RequestError,
    RequestParser,
)
from tamis.service.http.timeouts import ConnectionMonitor, ConnectionState
from tamis.service.responses import WHOLE_RESPONSE, ErrorResponse


class Connection(RequestParser, asyncio.Protocol):
    """A connection whose timeouts are checked by a periodic sweep.

    A sweep compares the state with that of the sweep before, so a timeout is exact to the time between two
    sweeps. uvicorn's server creates connections with these arguments and calls only `shutdown`.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        monitor: ConnectionMonitor,
    ):
        # as uvicorn's own protocols do: a test or another server may pass an unloaded configuration
        if not config.loaded:
            config.load()
        super().__init__(monitor.limits.max_header_bytes)
        self.loop = _loop or asyncio.get_event_loop()
        self._app: ASGIApp = config.loaded_app
        self._server_state, self.app_state = server_state, app_state
        self._connections = cast(set[Any], server_state.connections)
        self._parser = self._new_parser()
        self._latest: RequestResponseCycle | None = None
        self._current: RequestResponseCycle | None = None
        self._not_started: RequestResponseCycle | None = None
        self._waiting: deque[RequestResponseCycle] = deque()
        self._unparsed = b""
        self._final_error: ErrorResponse | None = None
        self._monitor = monitor
        self._seen: tuple[ConnectionState, int, int] | None = None
        self._seen_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or refuse it if too many are open."""
        self.transport = cast(asyncio.Transport, transport)
        self._flow = CountingFlow(self.transport)
        self._socket = transport.get_extra_info("socket")
        self._reading_speed = ReadingSpeed(self._socket, self._monitor.limits)
        self._connection_scope: dict[str, Any] = {
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "scheme": "https" if is_ssl(self.transport) else "http",
            "state": self.app_state,
            "extensions": {WHOLE_RESPONSE: {}},
        }
        self._connections.add(self)
        if len(self._connections) > self._monitor.limits.max_connections:
            self._send_final(self._monitor.too_many)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the application, and drop every reference to requests: they refer to this connection."""
        self._connections.discard(self)
        if self._current is not None:
            self._current.disconnect()
        self._waiting.clear()
        self._latest = self._current = self._not_started = self._final_error = None
        self._headers, self._url, self._unparsed = [], b"", b""
        self._flow.resume_writing()
        self._parser = None

    def pause_writing(self) -> None:
        """Stop writing: the client does not read what it was sent."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Resume writing."""
        self._flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse the data, or keep it while parsed requests are queued."""
        if self._parser is None:
            return  # after an error nothing can be trusted to be a request
        if self._waiting or self._unparsed:
            self._unparsed += data
            self._flow.pause_reading()
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            if len(data) <= HEAD_SLICE_BYTES:
                self._feed(data)
            else:
                self._feed_slices(data)
        except RequestError as error:
            self._reject(self._monitor.errors[error.reason])
        cycle = self._not_started
        if cycle is not None:
            # started only when all data is parsed: the application then finds the body complete
            self._not_started = None
            self._start(cycle)

    def _feed_slices(self, data: bytes) -> None:
        """Feed slice by slice, until requests wait: the rest is parsed once they are answered."""
        offset = 0
        while offset < len(data) and not self._waiting:
            end = offset + self._next_slice_bytes()
            self._feed(data[offset:end])
            offset = end
        self._unparsed = data[offset:]

    def on_headers_complete(self) -> None:
        """Start the request, or queue it (called by the parser)."""
        if self._is_replay:
            return
        parser, version = self._parser, self._parser.get_http_version()
        self._check_head(version)
        scope = self._scope(version)
        scope.update(self._connection_scope)
        self._is_in_head, self._is_in_body = False, True
        self._offers_upgrade = parser.should_upgrade()
        cycle = self._latest = RequestResponseCycle(
            scope,
            self.transport,
            self._flow,
            self._on_complete,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
            expects_continue=self._expects_continue and version == "1.1",
        )
        if self._current is None:
            self._current = self._not_started = cycle
        else:
            # one client must not fill the memory with pipelined requests
            self._flow.pause_reading()
            self._waiting.append(cycle)

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the request's body (called by the parser)."""
        # a body of many small chunks may have that much framing, trailers and extensions may not
        self._overhead -= len(body) * CREDIT_PER_BODY_BYTE
        if self._latest is not None and not self._latest.is_complete:
            self._latest.feed(body)

    def on_message_complete(self) -> None:
        """Record the end of the request (called by the parser)."""
        if self._offers_upgrade:
            return  # the parser skips the body, which is still to come
        self._is_in_body = False
        self._overhead = -self._slice_bytes  # the slice is charged when it has been parsed
        if self._latest is not None and not self._latest.is_complete:
            self._latest.end_body()

    def shutdown(self) -> None:
        """Close, unless a request is being answered or has arrived and is not read yet."""
        state = self._state()
        if state is ConnectionState.NEXT_REQUEST and not self._unparsed and not self._has_unread_bytes():
            self.transport.close()
        elif self._latest is not None:
            self._latest.keep_alive = False

    def _start(self, cycle: RequestResponseCycle) -> None:
        """Call the application; run it eagerly up to its first wait."""
        # read for each request: uvicorn renews the date, and shutdown adds `connection: close`
        cycle.default_headers = self._server_state.default_headers
        RequestRun(cycle.run(self._app), self._server_state.tasks).start()

    def _on_complete(self) -> None:
        """Continue after a response: with the next request, with bytes that wait, or with the error."""
        self._current = None
        self._server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._waiting:
            # in a new iteration: called from here, pipelined requests would nest deeper with each one
            self._current = self._waiting.popleft()
            self.loop.call_soon(self._start_waiting, self._current)
        elif self._final_error is not None:
            self._send_final(self._final_error)
        elif self._unparsed:
            self.loop.call_soon(self._receive_unparsed)
        else:
            self._flow.resume_reading()

    def _start_waiting(self, cycle: RequestResponseCycle) -> None:
        if self._current is not cycle:
            return  # the connection was closed meanwhile
        self._start(cycle)
        if self._unparsed and not self._waiting:
            self._receive_unparsed()  # with the rest of its body, perhaps

    def _receive_unparsed(self) -> None:
        if self._parser is None or not self._unparsed:
            return
        data, self._unparsed = self._unparsed, b""
        self._receive(data)
        if not (self._waiting or self._unparsed):
            self._flow.resume_reading()

    def close_if_late(self, now: float) -> None:
        """Close if a timeout has passed at `now`, the event loop's time."""
        if self._reading_speed.is_too_slow(self.transport, self._flow.written, now):
            self.transport.abort()
        latest = self._latest  # a streamed body may take any time while it keeps coming
        arrived = latest.received if latest is not None and STREAMED_BODY in latest.scope else 0
        seen = self._state(), self._requests, arrived
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        elif now - self._seen_since >= self._monitor.seconds_in[seen[0]]:
            self._time_out(seen[0])

    def _state(self) -> ConnectionState:
        latest = self._latest
        if self._waiting or self._unparsed or self._parser is None:
            return ConnectionState.RESPONSE  # reading is paused or has ended: the client cannot time out
        if latest is None or self._is_in_head:
            return ConnectionState.HEADERS
        if latest.is_complete:
            return ConnectionState.NEXT_REQUEST
        is_served = latest.is_busy and STREAMED_BODY in latest.scope
        return ConnectionState.BODY if latest.more_body and not is_served else ConnectionState.RESPONSE

    def _time_out(self, state: ConnectionState) -> None:
        if state is ConnectionState.NEXT_REQUEST or not self._requests:
            self.transport.close()
        else:
            self._reject(self._monitor.too_slow)

    def _has_unread_bytes(self) -> bool:
        # bytes in the kernel are a request that the client has sent before it could see the shutdown
        return any(fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(4)))

    def _reject(self, error: ErrorResponse) -> None:
        """Stop reading, and send the error in place of the response to the invalid request.

        Requests before it are answered first. If its own response has begun, nothing more can be
        sent: the client would read the error as a part of it.
        """
        self._parser, self._unparsed = None, b""
        self._flow.pause_reading()
        invalid = self._latest if self._is_in_body else None
        if invalid is not None and invalid.is_started:
            self._monitor.events.emit(ConnectionRejected(error.code))
            if invalid.is_complete:
                self.transport.close()
            else:
                self.transport.abort()
            return
        if invalid is not None and invalid in self._waiting:
            self._waiting.remove(invalid)
        if self._current is None or self._current is invalid:
            self._send_final(error)
        else:
            self._final_error = error

    def _send_final(self, error: ErrorResponse) -> None:
        """Send a last response and close; a running application gets a disconnect."""
        transport = self.transport
        self.connection_lost(ConnectionAbortedError())
        self._monitor.events.emit(ConnectionRejected(error.code))
        self._monitor.lingering.close(error, transport, now=self.loop.time())
