"""Lingering close: a last response on a rejected connection, sent whole before it is closed.

Closing while the client still sends makes the kernel reset the connection, and the client may lose
the response that says why. So what arrives after it is read and discarded for two seconds.
"""

from __future__ import annotations

import asyncio

from tamis.service.http.cycle import STATUS_LINES
from tamis.service.responses import BytesResponse

_LINGER_SECONDS = 2.0  # a client that needs longer to read one packet is gone
_MAX_LINGERING = 500  # in a flood of connections, descriptors matter more than each response


class LingeringClose:
    """Connections that were sent their last response and are not closed yet."""

    def __init__(self) -> None:
        self._open: set[_LingeringConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def close(self, answer: BytesResponse, transport: asyncio.Transport, *, now: float) -> None:
        """Send the answer and close; `now` is the event loop's time."""
        connection = _LingeringConnection(self._open, transport, until=now + _LINGER_SECONDS)
        transport.set_protocol(connection)
        transport.write(_response(answer))
        # TLS has no half-closed connections in asyncio
        if len(self._open) > _MAX_LINGERING or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Close those whose time is over."""
        for connection in [connection for connection in self._open if connection.until <= now]:
            connection.transport.abort()


class _LingeringConnection(asyncio.Protocol):
    def __init__(self, connections: set[_LingeringConnection], transport: asyncio.Transport, *, until: float):
        self._connections = connections
        self.transport = transport
        self.until = until
        connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)


def _response(answer: BytesResponse) -> bytes:
    headers = [*answer.raw_headers, (b"connection", b"close")]
    return b"\r\n".join([STATUS_LINES[answer.status_code], *map(b": ".join, headers), b"", answer.body])
