"""A worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
from collections.abc import Sequence

from tamis.service.server.channel import Assignment

_START_SECONDS = 120.0
"""A worker that has not begun to serve by then never will."""


class WorkerProcess:
    """A running worker; `command` is completed by the number of its end of the channel."""

    def __init__(self, command: Sequence[str], assignment: Assignment, *, now: float):
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

    def hear(self, now: float) -> bool:
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

    def forgive(self, now: float) -> None:
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
