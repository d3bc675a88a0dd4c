"""The parent of several workers: once with scripts for workers, once with the service itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.service.http.sockets import Listeners
from tamis.service.http.supervisor import Supervisor, WorkerError
from tamis.service.http.worker import WorkerConfig
from tamis.settings import Settings
from tests.support.artifacts import save_model
from tests.support.process_stats import shared_mb
from tests.support.processes import ENVIRON, Service, serving

pytestmark = pytest.mark.alone

_SAY = "import os, sys, time; fd = int(sys.argv[1]); os.write(fd, b'a model\\n')"
_PULSE = "while True: os.write(fd, b'\\n'); time.sleep(.05)"


class Watched:
    """A supervisor over scripts; a script ends the test by stopping the supervisor."""

    def __init__(self, script: str, **settings: object):
        config = WorkerConfig(Settings(workers=2, **settings), [])  # type: ignore[arg-type]
        self.started: list[str] = []
        self.supervisor = Supervisor(
            [sys.executable, "-S", "-c", script],
            config,
            listeners=Listeners([], are_given=True),
            clock=SystemClock(),
        )

    def run(self) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.supervisor.run(on_start=self.started.append, on_tick=lambda: None, on_stop=lambda: None)
        finally:
            self.left = signal.getsignal(signal.SIGTERM)
            for number, handler in before.items():
                signal.signal(number, handler)


def test_the_first_worker_that_cannot_start_ends_the_service() -> None:
    watched = Watched("raise SystemExit(3)")
    with pytest.raises(WorkerError, match="its first worker ended with exit code 3"):
        watched.run()
    assert watched.started == []


def test_workers_that_cannot_restart_end_the_service(tmp_path: Path) -> None:
    first = tmp_path / "first"
    script = f"import os; os.path.exists({str(first)!r}) and os._exit(4); open({str(first)!r}, 'w'); {_SAY}"
    watched = Watched(script)
    began = time.monotonic()
    with pytest.raises(WorkerError, match=r"no worker can be started \(exit code 4, 6 times\)"):
        watched.run()
    assert watched.started == ["a model"]
    assert time.monotonic() - began > 3, "it pauses longer each time"


def test_a_worker_that_falls_silent_is_replaced(tmp_path: Path) -> None:
    """The second generation stops the test; a worker that is heard lives on."""
    log = tmp_path / "pids"
    script = (
        f"import os, signal; n = os.open({str(log)!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY); "
        f"os.write(n, b'%d ' % os.getpid()); "
        f"(len(open({str(log)!r}).read().split()) > 2) and os.kill(os.getppid(), signal.SIGTERM); {_SAY}\n"
        f"if len(open({str(log)!r}).read().split()) == 2: time.sleep(600)\n{_PULSE}"
    )
    watched = Watched(script, worker_timeout_seconds=0.5, drain_seconds=0.0)
    began = time.monotonic()
    with pytest.raises(WorkerError):  # scripts do not end in order
        watched.run()
    assert len(log.read_text().split()) == 3
    assert watched.left != signal.SIG_DFL, "a further signal does not cut the end short"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_killed_or_hung_worker_is_replaced_within_two_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, "--mock", "--workers", "2", TAMIS_DRAIN_SECONDS="0") as service:
        await _until_workers(service, 2, set())
        victim = min(service.workers())
        began = time.monotonic()
        os.kill(victim, number)
        await _until_workers(service, 2, {victim})
        assert time.monotonic() - began < 2
        assert httpx.get(f"{service.address}/health/ready").status_code == 200
        assert service.stop() == 0


async def _until_workers(service: Service, count: int, without: set[int]) -> None:
    async with asyncio.timeout(10):
        while len(service.workers() - without) < count:
            await asyncio.sleep(0)


async def test_the_parent_is_small_and_the_workers_serve_one_model(tmp_path: Path) -> None:
    save_model(tmp_path / "spam")
    with serving(tmp_path, "spam", "--workers", "2", TAMIS_DRAIN_SECONDS="0") as service:
        await _until_workers(service, 2, set())
        assert shared_mb(service.process.pid) < 46.875  # 48,000 kB, of which pydantic-settings takes 14 MB
        save_model(tmp_path / "spam")  # version 2 appears while version 1 is served
        for pid in service.workers():
            os.kill(pid, signal.SIGKILL)
        assert httpx.get(service.address, timeout=30).json()["model_version"] == "1"
        assert service.stop() == 0


def test_worker_ends_when_its_supervisor_is_killed_first() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "tamis", "serve", "--worker-channel", str(theirs.fileno())]
        worker = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    ours.sendall(b'{"settings": ')  # killed while it sends the configuration
    ours.close()
    try:
        assert worker.wait(timeout=30) == 0
    finally:
        worker.kill()


def test_a_broken_model_is_one_line_when_there_are_workers(tmp_path: Path) -> None:
    path = save_model(tmp_path / "spam")
    (path / "weights.safetensors").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "tamis", "serve", "spam", "--workers", "2", "--port", "0"],
        cwd=tmp_path,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("tamis: ") and "weights.safetensors" in line


@pytest.mark.parametrize(("number", "noticed_seconds"), [(signal.SIGKILL, 0.0), (signal.SIGSTOP, 1.0)])
async def test_all_workers_killed_or_hung_answer_again_in_two_seconds(
    tmp_path: Path, number: signal.Signals, noticed_seconds: float
) -> None:
    with serving(tmp_path, "--mock", "--workers", "2") as service:
        await _until_workers(service, 2, set())
        began = time.monotonic()
        for pid in service.workers():
            os.kill(pid, number)
        assert httpx.get(f"{service.address}/health/ready", timeout=10).status_code == 200
        assert time.monotonic() - began < max(2, noticed_seconds + 2 * service.start_seconds)
