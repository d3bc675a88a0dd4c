"""One HTTP/1.1 connection on uvicorn's fast parser, with limits on how long and how much.

uvicorn's own connection is given up only when it idles between two requests: slow headers, slow
bodies and slow readers stay for ever. Here one sweep over all connections finds those; a request that
is sent and read at an ordinary pace pays nothing for it, no timer and no look at the clock.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from tamis.beginning import begin
from tamis.service.answers import ErrorAnswer, Headers
from tamis.service.server.exchange import Exchange
from tamis.service.server.watch import Phase, Watch

_HASH = ord("#")  # a number: Python looks for bytes in bytes only after it has made and dropped an error
_ASGI = {"version": "3.0", "spec_version": "2.3"}

_BYTES_ACKED = struct.Struct("=120xQ")
"""Linux's struct tcp_info: how many bytes the peer's kernel has confirmed."""


class Connection(asyncio.Protocol):
    """A connection that a sweep can find late.

    The sweep compares what it sees with what it saw the last time, so its deadlines are late by at
    most the time between two sweeps. uvicorn's server makes connections with these arguments, and
    asks of them `shutdown` alone.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        watch: Watch,
    ):
        if not config.loaded:
            config.load()
        self.loop = _loop or asyncio.get_event_loop()
        self._app: ASGIApp = config.loaded_app
        self._server_state, self.app_state = server_state, app_state
        self._connections = cast(set[Any], server_state.connections)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # answered, then closed
        self._url, self._headers, self._expects_continue = b"", cast(Headers, []), False
        self._requests = 0
        self._is_in_headers = False
        self._latest: Exchange | None = None
        self._current: Exchange | None = None
        self._unbegun: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._watch = watch
        self._room = self._max_header_bytes = watch.limits.max_header_bytes
        self._seen: tuple[Phase, int] | None = None
        self._seen_since = 0.0
        self._reads_since = 0.0
        self._read_before: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where too many are open."""
        self.transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self.transport)
        self._addresses = {
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "scheme": "https" if is_ssl(self.transport) else "http",
        }
        self._connections.add(self)
        if len(self._connections) > self._watch.limits.max_connections:
            self._give_up(self._watch.too_many)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers on it."""
        self._connections.discard(self)
        if self._current is not None:
            self._current.leave()
        self._waiting.clear()
        self._unbegun = None
        self._flow.resume_writing()
        self._parser = None  # it holds on to us

    def pause_writing(self) -> None:
        """Let nobody write: the client does not take what it was sent."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Let write again."""
        self._flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it makes the headers too large."""
        if len(data) > self._room and self._waits_for_headers() and b"\r\n\r\n" not in data[: self._room]:
            self._give_up(self._watch.headers_too_large)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # whoever would rather speak another protocol is answered in this one
        except httptools.HttpParserError:
            self._give_up(self._watch.not_http)
            return
        if self._is_in_headers or self._latest is None:
            self._room -= len(data)
        else:
            self._room = self._max_header_bytes
        if self._unbegun is not None:
            exchange, self._unbegun = self._unbegun, None
            self._begin(exchange)

    def on_message_begin(self) -> None:
        """Begin a request (the parser calls)."""
        self._url, self._headers, self._expects_continue = b"", [], False
        self._requests += 1
        self._is_in_headers = True

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request's target (the parser calls)."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header (the parser calls)."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Have the request answered, or let it wait behind those before it (the parser calls)."""
        self._is_in_headers = False
        parser, version = self._parser, self._parser.get_http_version()
        exchange = self._latest = Exchange(
            self._scope(version),
            self.transport,
            self._flow,
            self._answered,
            keep_alive=version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade(),
            expects_continue=self._expects_continue,
        )
        if self._current is None:
            self._current = self._unbegun = exchange
        else:  # one after the other, and no more of them than have come
            self._flow.pause_reading()
            self._waiting.append(exchange)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the request's body (the parser calls)."""
        if self._latest is not None and not self._latest.is_complete:
            self._latest.feed(body)

    def on_message_complete(self) -> None:
        """Take note of the request's end (the parser calls)."""
        if self._latest is not None and not self._latest.is_complete:
            self._latest.end_body()

    def shutdown(self) -> None:
        """Close, unless a request is being answered or has arrived and is not read yet."""
        if self._phase() is Phase.NEXT_REQUEST and not self._has_unread_bytes():
            self.transport.close()
        elif self._latest is not None:
            self._latest.keep_alive = False

    def _scope(self, version: str) -> Scope:
        url = self._url
        if not url.startswith(b"/") or _HASH in url:
            # what is no URL is no HTTP: this raises what the parser itself raises for that
            parsed = httptools.parse_url(url)
            url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "state": self.app_state,
            **self._addresses,
        }

    def _begin(self, exchange: Exchange) -> None:
        """Have the application answer, at once as far as it has nothing to wait for."""
        exchange.default_headers = self._server_state.default_headers
        context = copy_context()
        rest = context.run(begin, exchange.run(self._app))
        if rest is not None:
            self._go_on(rest, context)

    def _go_on(self, rest: Coroutine[Any, Any, None], context: Context) -> None:
        tasks = self._server_state.tasks
        task = self.loop.create_task(rest, context=context)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _answered(self) -> None:
        """Go on with the next request, if it has come."""
        self._current = None
        self._server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._waiting:
            # not from here: each of many requests that came together would stand on those before it
            self._current = self._waiting.popleft()
            self.loop.call_soon(self._begin, self._current)
        else:
            self._flow.resume_reading()

    def give_up_if_late(self, now: float) -> None:
        """Close when a deadline has passed at `now`, the event loop's time."""
        self._give_up_slow_reader(now)
        seen = self._phase(), self._requests
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        elif now - self._seen_since >= self._watch.seconds_in[seen[0]]:
            self._time_out(seen[0])

    def _phase(self) -> Phase:
        latest = self._latest
        if latest is None or self._is_in_headers:
            return Phase.HEADERS
        if latest.is_complete:
            return Phase.NEXT_REQUEST
        return Phase.BODY if latest.more_body else Phase.ANSWER

    def _waits_for_headers(self) -> bool:
        return self._phase() in (Phase.HEADERS, Phase.NEXT_REQUEST)

    def _time_out(self, phase: Phase) -> None:
        latest = self._latest
        unanswered = latest is None or not latest.is_started or latest.is_complete
        if phase is Phase.NEXT_REQUEST or not self._requests:
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
        if sys.platform == "linux" and self._addresses["server"] is not None:  # no Unix socket
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
        self.connection_lost(ConnectionAbortedError())
        self._watch.count_refusal(answer.code)
        self._watch.farewells.say(answer, transport, now=self.loop.time())
