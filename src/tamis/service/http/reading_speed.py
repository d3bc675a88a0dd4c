"""How fast a client reads its responses, by what its kernel has confirmed."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios

from tamis.service.http.timeouts import ConnectionLimits

_BYTES_ACKED = struct.Struct("=120xQ")
"""Linux's struct tcp_info: how many bytes the peer's kernel has confirmed."""

_UNIX_READ_STEP = 65_536
"""The kernel reports what a Unix socket's peer has read in steps of up to this many bytes."""


class ReadingSpeed:
    """Measures one connection, as long as a response waits in memory."""

    __slots__ = ("_before", "_limits", "_since", "_socket")

    def __init__(self, connected: socket.socket, limits: ConnectionLimits):
        self._socket, self._limits = connected, limits
        self._since = 0.0
        self._before: int | None = None

    def is_too_slow(self, transport: asyncio.Transport, written: int, now: float) -> bool:
        """Return whether the client reads too little of the responses that wait in memory."""
        # without a response in our memory the client costs nothing, however slowly it reads
        waiting = transport.get_write_buffer_size()
        if not waiting:
            self._before = None  # a later response is measured from its own beginning
            return False
        step = _UNIX_READ_STEP if self._socket.family == socket.AF_UNIX else 0
        min_speed = self._limits.min_read_bytes_per_second
        read, elapsed, before = self._bytes_read(written - waiting), now - self._since, self._before
        if before is not None and elapsed < self._limits.slow_read_seconds + step / max(min_speed, 1):
            return False
        self._before, self._since = read, now
        return before is not None and read - before < min_speed * elapsed - step

    def _bytes_read(self, written: int) -> int:
        """Count what the client's kernel has confirmed, or else the `written` that ours has passed on."""
        if sys.platform != "linux":
            return written
        if self._socket.family == socket.AF_UNIX:
            unread = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
            return written - int.from_bytes(unread, sys.byteorder)
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        [acked] = _BYTES_ACKED.unpack(info)
        return int(acked)
