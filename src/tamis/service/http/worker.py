"""The channel between a worker and its supervisor: lines over a socket pair.

    supervisor ─► worker   the WorkerConfig, then messages such as {"action": "reload"}
    worker ─► supervisor   one line that names its models, then an empty line as heartbeat,
                           and messages for the other workers

Every message is one JSON object in a line. When one end closes, however suddenly, the other reads the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tamis.service.http.sockets import Listeners
from tamis.settings import Settings

HEARTBEAT = b"\n"

_LISTEN_LONGER_SECONDS = 0.4
"""The supervisor refuses connections after `drain_seconds`; until it has, the workers go on accepting."""


class Message(msgspec.Struct, frozen=True):
    """A command for the models of every worker: `reload`, `load` or `unload`."""

    action: str
    model: str = ""
    version: str = ""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker serves and how.

    `models` maps each reference to the version to load, so that a worker that starts later loads the same.
    """

    settings: Settings
    listener_fds: Sequence[int]
    metrics_fd: int | None = None
    models: Mapping[str, str] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """Return the configuration as one line of JSON."""
        plain = {
            "settings": self.settings.model_dump(mode="json", exclude_unset=True),
            "listener_fds": [*self.listener_fds],
            "metrics_fd": self.metrics_fd,
            "models": dict(self.models),
        }
        return msgspec.json.encode(plain) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> WorkerConfig:
        """Return the configuration of a line."""
        plain = msgspec.json.decode(line)
        return cls(**plain | {"settings": Settings(**plain["settings"])})

    @property
    def shared_fds(self) -> Sequence[int]:
        """The descriptors that a worker inherits under the same numbers."""
        return [*self.listener_fds, *([] if self.metrics_fd is None else [self.metrics_fd])]

    @property
    def drain_seconds(self) -> float:
        """Seconds that a worker goes on accepting after the signal to stop."""
        return self.settings.drain_seconds + _LISTEN_LONGER_SECONDS

    def listeners(self) -> Listeners:
        """Open the supervisor's sockets; the supervisor decides when to refuse connections."""
        return Listeners([socket.socket(fileno=fd) for fd in self.listener_fds], are_given=True)


class WorkerChannel:
    """The worker's end of the channel."""

    def __init__(self, fd: int):
        self._socket = socket.socket(fileno=fd)
        self._received = b""
        os.dup(fd)  # never closed: the stream ends with the process, and not before

    def fileno(self) -> int:
        """Return the descriptor of the socket, for the event loop."""
        return self._socket.fileno()

    def receive(self) -> WorkerConfig | None:
        """Wait for the configuration; return None if the supervisor has ended."""
        while b"\n" not in self._received:
            data = self._socket.recv(65_536)
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        self._socket.setblocking(False)  # from here on it is read on the event loop
        return WorkerConfig.from_line(line)

    def messages(self) -> list[Message] | None:
        """Return the messages that have arrived; None if the supervisor has ended."""
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        if not data:
            return None
        *lines, self._received = (self._received + data).split(b"\n")
        return [msgspec.json.decode(line, type=Message) for line in lines]

    async def broadcast(self, action: str, model: str, version: str) -> None:
        """Have the other workers do the same."""
        self._send(msgspec.json.encode(Message(action, model, version)) + b"\n")

    def report_ready(self, served_models: str) -> None:
        """Report that requests are accepted, and which models answer them."""
        self._send(served_models.replace("\n", " ").encode() + b"\n")

    def heartbeat(self) -> None:
        """Report that the event loop runs."""
        self._send(HEARTBEAT)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # the end is detected by reading
            self._socket.send(data)


_START_SECONDS = 120.0
"""A worker that does not serve by then is replaced."""


class WorkerProcess:
    """A running worker, seen from the supervisor; the number of its socket is appended to `command`."""

    def __init__(self, command: Sequence[str], config: WorkerConfig, *, now: float):
        self.served_models: str | None = None
        """A description of what the worker serves, None until it is ready."""
        self._heard_at = now
        self._received = b""
        self.messages: list[Message] = []
        """Messages for the other workers, not delivered yet."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,  # or a worker would read what is typed for the shell
                pass_fds=[theirs.fileno(), *config.shared_fds],
                process_group=0,  # Ctrl+C reaches the supervisor only, which stops the workers in order
            )
        self.send(config.to_line())

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the worker sends something or ends."""
        return self._channel.fileno()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self, now: float) -> bool:
        """Read what the worker has sent; return False if it has ended."""
        try:
            data = self._channel.recv(65_536)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._heard_at = now
        *lines, self._received = (self._received + data).split(b"\n")
        for line in filter(None, lines):
            if self.served_models is None:
                self.served_models = line.decode()
            else:
                self.messages.append(msgspec.json.decode(line, type=Message))
        return data != b""

    def is_hung(self, now: float, timeout_seconds: float) -> bool:
        """Return whether its last heartbeat is older than the timeout."""
        return now - self._heard_at > (_START_SECONDS if self.served_models is None else timeout_seconds)

    def reset_heartbeat(self, now: float) -> None:
        """Count missed heartbeats from now on: this process did not read them."""
        self._heard_at = now

    def terminate(self) -> None:
        """Send SIGTERM: drain and end."""
        self._process.terminate()

    def end(self) -> int:
        """Wait for its end and return the exit code; negative is the signal that killed it."""
        try:
            return self._process.wait(timeout=0.2)  # its socket is closed: it is about to end
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

    def send(self, line: bytes) -> None:
        """Send a line; a worker that has ended or reads nothing is found by its missing heartbeat."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._channel.sendall(line)
        self._channel.setblocking(False)  # the first line may block: it can be longer than a socket buffer
