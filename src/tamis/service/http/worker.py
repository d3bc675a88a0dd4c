"""A worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tamis.service.http.sockets import Listeners
from tamis.settings import Settings

HEARTBEAT = b"."

_LISTEN_LONGER_SECONDS = 0.4
"""The parent lets nobody new in after `drain_seconds`; until it surely has, the workers go on accepting."""


@dataclass(frozen=True)
class WorkerConfig:
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


class WorkerChannel:
    """The worker's end."""

    def __init__(self, fd: int):
        self._socket = socket.socket(fileno=fd)
        os.dup(fd)  # closed by nobody: the stream ends when the process has gone, and not before

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the parent has gone."""
        return self._socket.fileno()

    def receive(self) -> WorkerConfig:
        """Wait for the assignment; it comes from the process that started us, hence pickle."""
        with self._socket.makefile("rb") as stream:
            assignment = pickle.load(stream)
        assert isinstance(assignment, WorkerConfig)
        self._socket.setblocking(False)
        return assignment

    def report_ready(self, serves: str) -> None:
        """Say that requests are taken, and what answers them."""
        self._send(serves.replace("\n", " ").encode() + b"\n")

    def heartbeat(self) -> None:
        """Say that the event loop turns."""
        self._send(HEARTBEAT)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # its end is noticed elsewhere
            self._socket.send(data)


_START_SECONDS = 120.0
"""A worker that has not begun to serve by then never will."""


class WorkerProcess:
    """A running worker; `command` is completed by the number of its end of the channel."""

    def __init__(self, command: Sequence[str], assignment: WorkerConfig, *, now: float):
        self.serves: str | None = None
        self._heard_at = now
        self._said = b""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *assignment.shared_fds],
                process_group=0,  # Ctrl+C reaches the parent only, who passes it on in order
            )
        self._tell(pickle.dumps(assignment))

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the worker speaks or ends."""
        return self._channel.fileno()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def poll(self, now: float) -> bool:
        """Take in what the worker has said; return False when it has gone."""
        try:
            said = self._channel.recv(65_536)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._heard_at = now
        if self.serves is None:
            self._said += said
            line, end, _ = self._said.partition(b"\n")
            self.serves = line.decode() if end else None
        return said != b""

    def is_hung(self, now: float, timeout_seconds: float) -> bool:
        """Tell whether it has been silent for longer than a living worker can be."""
        return now - self._heard_at > (_START_SECONDS if self.serves is None else timeout_seconds)

    def reset_heartbeat(self, now: float) -> None:
        """Count its silence from now on: it was we who did not listen."""
        self._heard_at = now

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._process.terminate()

    def end(self) -> int:
        """Make sure that it has gone, and return its exit code; negative is the signal that killed it."""
        try:
            return self._process.wait(timeout=0.2)  # it has hung up: it is gone but for a moment
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._channel.close()

    def kill(self) -> int:
        """End it at once."""
        self._process.kill()
        code = self._process.wait()
        self._channel.close()
        return code

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended already: the next look at it tells
            self._channel.sendall(message)
        self._channel.setblocking(False)
