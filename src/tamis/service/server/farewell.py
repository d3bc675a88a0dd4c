"""A last answer on a connection that is given up: sent whole, then closed.

Closing while the client still sends makes the kernel reset the connection, and the client may lose
the answer that says why. So what comes after it is read and thrown away for a moment.
"""

from __future__ import annotations

import asyncio

from tamis.service.answers import Answer
from tamis.service.server.exchange import STATUS_LINES

_LINGER_SECONDS = 2.0
_MAX_LINGERING = 500


class Farewells:
    """The connections that have had their last answer and not yet gone."""

    def __init__(self) -> None:
        self._open: set[_Farewell] = set()

    def __len__(self) -> int:
        return len(self._open)

    def say(self, answer: Answer, transport: asyncio.Transport, *, now: float) -> None:
        """Send the answer and hang up; `now` is the event loop's time."""
        farewell = _Farewell(self._open, transport, until=now + _LINGER_SECONDS)
        transport.set_protocol(farewell)
        transport.write(_response(answer))
        if len(self._open) > _MAX_LINGERING or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Drop those that have lingered long enough."""
        for farewell in [farewell for farewell in self._open if farewell.until <= now]:
            farewell.transport.abort()


class _Farewell(asyncio.Protocol):
    def __init__(self, among: set[_Farewell], transport: asyncio.Transport, *, until: float):
        self._among = among
        self.transport = transport
        self.until = until
        among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.discard(self)


def _response(answer: Answer) -> bytes:
    headers = [*answer.raw_headers, (b"connection", b"close")]
    return b"\r\n".join([STATUS_LINES[answer.status_code], *map(b": ".join, headers), b"", answer.body])
