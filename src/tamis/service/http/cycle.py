"""One request and its response: the ASGI application's `receive` and `send`, and the bytes of the response.

    connection ─► feed, end_body, disconnect ─► receive ─► application ─► send ─► _send_body ─► transport
                                                                                      └─► on_complete

Handles HTTP/1.1 framing on one connection; timeouts are in `timeouts`.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Callable, Iterable
from enum import Enum

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from tamis.service.request_body import WHOLE_BODY
from tamis.service.telemetry.logging import FIELDS, error_fields

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_BODY = (204, 304)
_FAILED = b"Internal Server Error"
_FAILED_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_FAILED))]

_log = logging.getLogger(__name__)

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in http.HTTPStatus
}


class CountingFlow(FlowControl):
    """uvicorn's flow control, with a count of the bytes that were written to the transport."""

    def __init__(self, transport: asyncio.Transport):
        super().__init__(transport)
        self.written = 0


class Framing(Enum):
    """How a client finds the end of a response's body."""

    NONE = "no body"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "close"


# by these names, because reading a member from its enumeration takes six times as long in Python 3.11
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing


class RequestResponseCycle:
    """The state of one request and its response."""

    __slots__ = (
        "_body",
        "_has_given_end",
        "_expects_continue",
        "_flow",
        "_framing",
        "_headers",
        "_remaining",
        "_on_complete",
        "_status",
        "_transport",
        "_waiter",
        "default_headers",
        "is_disconnected",
        "is_complete",
        "is_started",
        "keep_alive",
        "more_body",
        "received",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: CountingFlow,
        on_complete: Callable[[], None],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ):
        """Begin with a request whose headers have arrived; `on_complete` is called after the response."""
        self.scope, self._transport, self._flow, self._on_complete = scope, transport, flow, on_complete
        self.keep_alive, self._expects_continue = keep_alive, expects_continue
        self.default_headers: Iterable[tuple[bytes, bytes]] = ()
        self._body = b""
        self.more_body = True
        self.received = 0
        self._has_given_end = False
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: Iterable[tuple[bytes, bytes]] = ()
        self._framing, self._remaining = _NONE, 0
        self.is_started = self.is_complete = self.is_disconnected = False

    @property
    def is_busy(self) -> bool:
        """Whether the application is not waiting for the body."""
        return self._waiter is None or self._waiter.done()

    def feed(self, body: bytes) -> None:
        """Append a piece of the request's body; pause reading if the application does not keep up."""
        self._body = self._body + body if self._body else body
        self.received += len(body)
        if len(self._body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        if self._waiter is not None:
            self._wake()

    def end_body(self) -> None:
        """Record the end of the request."""
        self.more_body = False
        if self._waiter is not None:
            self._wake()

    def disconnect(self) -> None:
        """Record that the client has disconnected."""
        self.is_disconnected = True
        self._wake()

    async def run(self, app: ASGIApp) -> None:
        """Run the application; complete a response that it does not start or does not finish."""
        if not self.more_body:
            self.scope[WHOLE_BODY] = self._body  # spares most requests the messages of `receive`
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as beyond:  # noqa: BLE001 - the last resort: the application responds to its own failures
            _log.error("the application failed", extra={FIELDS: error_fields(beyond)})
        if self.is_disconnected or self.is_complete:
            return
        if self.is_started:  # cut off: the client must see that the response is incomplete
            self._transport.close()
            return
        self.keep_alive, self._status = False, 0
        await self.send({"type": "http.response.start", "status": 500, "headers": _FAILED_HEADERS})
        await self.send({"type": "http.response.body", "body": _FAILED})

    async def receive(self) -> Message:
        """Return the next ASGI message: a part of the body, or the disconnect."""
        if self._expects_continue and not self._transport.is_closing():
            self._expects_continue = False
            self._transport.write(_CONTINUE)
            self._flow.written += len(_CONTINUE)
        while not (self._body or self.is_disconnected or self.is_complete or self._has_unsent_end()):
            self._flow.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.is_disconnected or self.is_complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        self._has_given_end = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Send the next part of the response; its head is written with the first piece of its body."""
        if self._flow.write_paused and not self.is_disconnected:
            await self._flow.drain()
        if self.is_disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self._status:
            # `100 Continue` is not valid after a final status
            self._expects_continue = False
            self._status, self._headers = message["status"], message["headers"]
            if "body" in message:  # see WHOLE_RESPONSE
                self._send_body(message["body"], False)
        elif kind == "http.response.body" and self._status and not self.is_complete:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind}")

    def _send_body(self, body: bytes, more: bool) -> None:
        head = b""
        if not self.is_started:
            head = self._head()
            self.is_started = True
        if self._framing is _LENGTH:
            self._remaining -= len(body)
            # the client would take the next response for the rest of this one, or the reverse
            if self._remaining < 0 or (self._remaining > 0 and not more):
                raise RuntimeError("the response is not as long as its content-length")
        elif self._framing is _CHUNKED:
            # an empty chunk would end the body
            body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body = body if more else body + b"0\r\n\r\n"
        elif self._framing is _NONE:
            body = b""
        # one write: two would be two packets, as Nagle's algorithm is off
        data = head + body
        self._flow.written += len(data)
        self._transport.write(data)
        if not more:
            self.is_complete = True
            # an idle connection keeps its last request, which need not keep a text
            self._body = b""
            self.scope.pop(WHOLE_BODY, None)
            if self._waiter is not None:
                self._wake()
            if not self.keep_alive:
                self._transport.close()
            self._on_complete()

    def _head(self) -> bytes:
        """Return the status line and the headers, and choose the framing of the body."""
        headers = [*self.default_headers, *self._headers]
        named = dict(headers)
        self._remaining = int(named.get(b"content-length", -1))
        self._framing = self._framing_for(self._remaining)
        if self._framing is _CHUNKED:
            headers.append((b"transfer-encoding", b"chunked"))
        if named.get(b"connection") == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        head = b"\r\n".join([STATUS_LINES[self._status], *map(b": ".join, headers), b"", b""])
        # response splitting: a value of the client in a header could end it and begin another
        if not head.count(b"\n") == head.count(b"\r") == len(headers) + 2:
            raise RuntimeError("a response header contains a line break")
        return head

    def _framing_for(self, length: int) -> Framing:
        if self.scope["method"] == "HEAD" or self._status in _WITHOUT_BODY:
            return _NONE
        if length >= 0:
            return _LENGTH
        if self.scope["http_version"] == "1.1":
            return _CHUNKED
        self.keep_alive = False  # HTTP/1.0 knows no chunks
        return _CLOSE

    def _has_unsent_end(self) -> bool:
        return not (self.more_body or self._has_given_end)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
