"""How a worker process and the parent that watches it talk: over one pair of sockets.

The parent sends one Assignment. The worker answers with one line that says what it serves, once it
does, and from then on with a byte every time its event loop has come round, and while the loop waits
for its disk. When one of them ends,
however suddenly, the other reads the end of the stream.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from tamis.service.server.listening import Listeners
from tamis.settings import Settings

PULSE = b"."

_LISTEN_LONGER_SECONDS = 0.4
"""The parent lets nobody new in after `drain_seconds`; until it surely has, the workers go on accepting."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do: the same for all, whatever has changed on disk since the first began."""

    settings: Settings
    listener_fds: Sequence[int]
    metrics_fd: int | None = None

    @property
    def shared_fds(self) -> Sequence[int]:
        """The descriptors that a worker inherits, by the same numbers."""
        return [*self.listener_fds, *([] if self.metrics_fd is None else [self.metrics_fd])]

    @property
    def drain_seconds(self) -> float:
        """How long a worker goes on accepting after the signal to stop."""
        return self.settings.drain_seconds + _LISTEN_LONGER_SECONDS

    def listeners(self) -> Listeners:
        """Open the parent's sockets; when to let nobody new in is the parent's to say."""
        return Listeners([socket.socket(fileno=fd) for fd in self.listener_fds], are_given=True)


class Channel:
    """The worker's end."""

    def __init__(self, fd: int):
        self._socket = socket.socket(fileno=fd)
        os.dup(fd)  # closed by nobody: the stream ends when the process has gone, and not before

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the parent has gone."""
        return self._socket.fileno()

    def receive(self) -> Assignment:
        """Wait for the assignment; it comes from the process that started us, hence pickle."""
        with self._socket.makefile("rb") as stream:
            assignment = pickle.load(stream)
        assert isinstance(assignment, Assignment)
        self._socket.setblocking(False)
        return assignment

    def introduce(self, serves: str) -> None:
        """Say that requests are taken, and what answers them."""
        self._send(serves.replace("\n", " ").encode() + b"\n")

    def pulse(self) -> None:
        """Say that the event loop turns."""
        self._send(PULSE)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # its end is noticed elsewhere
            self._socket.send(data)
