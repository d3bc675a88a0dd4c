"""`tamis serve` as a real process, and clients that know what became of every request they sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tamis.settings import Settings
from tamis.settings_source import variables as names_of
from tests.support.command_server import MEASURES_COVERAGE, ForkedCommand
from tests.support.process_stats import children_of

Process = subprocess.Popen[bytes] | ForkedCommand

_SETTINGS = {name for item in Settings.model_fields.items() for name in names_of(*item)}
ENVIRON = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
"""The environment of the tests, which may measure coverage, without anything that is set for Tamis."""

_SERVE_ENVIRON = ENVIRON | {"TAMIS_ALLOWED_HOSTS": "*"}
"""Tests that write their own bytes call the service `tamis`; only test_allowed_hosts is about the name."""

_START_SECONDS = 60


@dataclass
class Service:
    """A running `tamis serve`."""

    process: Process
    log: Path
    notices: socket.socket
    start_seconds: float = 0.0
    """How long it took until it was ready: a yardstick for what a busy machine can do."""

    @property
    def port(self) -> int:
        found = re.search(r'(?:^Address +|"address": ")http://127\.0\.0\.1:(\d+)', self.said, re.MULTILINE)
        assert found, self.said
        return int(found[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """What it has written to its standard error."""
        return self.log.read_text()

    def wait_for(self, notice: bytes) -> None:
        """Wait until it tells systemd so."""
        while notice not in self.notices.recv(1_024):
            pass

    def workers(self) -> set[int]:
        """Return the process numbers of the workers that run now.

        One that has just been forked is still the parent's copy: to stop it there stops the parent as well.
        """
        return {pid for pid in children_of(self.process.pid) if _is_worker(pid)}

    def insist(self) -> int:
        """Tell it to stop again and again, and return its exit code.

        It has time to end each time: on its last steps a signal would kill it like any other process.
        """
        while self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=3)
        return self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def _is_worker(pid: int) -> bool:
    try:
        return b"--worker-channel" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended meanwhile


@contextmanager
def serving(
    folder: Path, *arguments: str, fds: tuple[int, ...] = (), is_program: bool = False, **environ: str
) -> Iterator[Service]:
    """Run `tamis serve` in `folder` on a free port, ready when it is given; it is killed in the end.

    It is forked, unless it has several workers, descriptors or a preloaded library, or is to be a program.
    """
    has_workers = any(pair[0] == "--workers" and pair[1] != "1" for pair in pairwise(arguments))
    is_program = is_program or bool(fds) or has_workers or "LD_PRELOAD" in environ or MEASURES_COVERAGE
    notify_path = folder / "notify"
    notify_path.unlink(missing_ok=True)
    log = folder / "serve.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, log.open("wb") as stderr:
        notices.bind(str(notify_path))
        notices.settimeout(_START_SECONDS)
        began = time.monotonic()
        arguments = ("--port", "0", *arguments)
        variables = _SERVE_ENVIRON | {"NOTIFY_SOCKET": str(notify_path)} | environ
        if not is_program:
            words = ["serve", *arguments]
            with open(os.devnull, "w") as nowhere:
                process: Process = ForkedCommand(
                    words,
                    folder=str(folder),
                    environ=variables,
                    stdout=nowhere.fileno(),
                    stderr=stderr.fileno(),
                )
        else:
            process = subprocess.Popen(
                [sys.executable, "-m", "tamis", "serve", *arguments],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=fds,
            )
        service = Service(process, log, notices)
        try:
            service.wait_for(b"READY=1")
            service.start_seconds = time.monotonic() - began
            yield service
        except TimeoutError:
            raise AssertionError(service.said) from None
        finally:
            process.kill()
            process.wait()


def activate(listener: socket.socket, folder: Path, **environ: str) -> subprocess.Popen[bytes]:
    """Start the service as systemd does: the socket is descriptor 3 and the environment says so."""
    script = (
        f"exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; "
        f"exec {sys.executable} -m tamis serve --mock"
    )
    return subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=ENVIRON | environ,
        pass_fds=[listener.fileno()],
        stderr=subprocess.DEVNULL,
    )


async def restart_under_load(
    listener: socket.socket, folder: Path, *, port: int, restarts: int = 3, **environ: str
) -> Ledger:
    """Restart the service on `listener` while twelve clients ask on `port`; return what they saw."""
    ledger, done = Ledger(), asyncio.Event()
    process = activate(listener, folder, **environ)
    clients = [KeepAliveClient(port, ledger, number=number, connect_seconds=30) for number in range(12)]
    asking = [asyncio.create_task(client.ask_until(done)) for client in clients]
    try:
        for _ in range(restarts):
            enough = ledger.answered + 200
            while ledger.answered < enough and not all(task.done() for task in asking):
                await asyncio.sleep(0)
            process.terminate()
            assert await asyncio.to_thread(process.wait, 60) == 0
            process = activate(listener, folder, **environ)
        done.set()
        await asyncio.gather(*asking)
    finally:
        process.kill()
        process.wait()
    return ledger


def waiting_for(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Give the caller a look, again and again, until the process has ended."""
    while process.poll() is None:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)


@dataclass
class Ledger:
    """What clients have seen: every request that was sent was answered, refused, or lost."""

    answered: int = 0
    statuses: set[int] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    turned_away: int = 0


class KeepAliveClient:
    """Asks again and again on one connection, and makes a new one when it is told to, as browsers do."""

    def __init__(
        self,
        port: int,
        ledger: Ledger,
        *,
        number: int = 0,
        always_new: bool = True,
        connect_seconds: float = 0.5,
    ):
        """Take how long nobody may answer at the port until it counts as closed, among others."""
        self._port = port
        self._connect_seconds = connect_seconds
        self._always_new = always_new
        self._ledger = ledger
        self._number = number
        self._asked = 0
        self._idle_since = 0.0

    async def ask_until(self, done: asyncio.Event) -> None:
        """Ask until told not to, or until nobody listens any more."""
        while not done.is_set():
            try:
                async with asyncio.timeout(self._connect_seconds):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except (ConnectionError, TimeoutError):
                self._ledger.turned_away += 1
                return
            self._idle_since = time.monotonic()
            try:
                while not done.is_set() and not _is_closed(writer) and await self._ask(reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request and wait for its answer; tell whether the connection may be used again."""
        self._asked += 1
        time_asked = self._asked if self._always_new else 0
        body = b'{"text": "client %d asks for the %d. time"}' % (self._number, time_asked)
        idle_seconds = time.monotonic() - self._idle_since
        try:
            writer.write(
                b"POST /prediction HTTP/1.1\r\nhost: tamis\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            async with asyncio.timeout(30):
                status, head = await read_answer(reader)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError) as lost:
            who = f"client {self._number}, request {self._asked}, idle for {idle_seconds:.2f} s before"
            self._ledger.lost.append(f"{who}: {lost!r}")
            return False
        self._idle_since = time.monotonic()
        self._ledger.answered += 1
        self._ledger.statuses.add(status)
        return b"connection: close" not in head


def _is_closed(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the server has closed the connection already, as every client looks before it asks."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket"), select.POLLRDHUP)
    return bool(poll.poll(0))


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one whole answer; return its status and its head in lower case."""
    status, head, _ = await read_response(reader)
    return status, head


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Read one whole response; return its status, its head in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    assert length, head
    return int(head.split()[1]), head, await reader.readexactly(int(length[1]))
