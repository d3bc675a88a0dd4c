"""Faults of shared files and slow disks while a real service of two workers runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.service.http.sockets import Listeners
from tamis.service.http.supervisor import Supervisor, WorkerError
from tamis.service.http.worker import WorkerConfig
from tamis.settings import Settings
from tests.support.processes import ENVIRON, Service, serving, waiting_for

_LIMIT = {
    "TAMIS_RATE_PER_MINUTE": "1",
    "TAMIS_RATE_BURST": "3",
    "TAMIS_RATE_FILE": "rates.tamis",
    "TAMIS_DRAIN_SECONDS": "0",
}

_LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
"""

_SLOW_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
static void dawdle(void) {
  const char *flag = getenv("SLOW_FLAG");
  if (flag && !access(flag, F_OK)) usleep(500000);
}
#define SLOW(result, name, takes, gives) \
  result name takes { \
    static result (*real) takes; \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    dawdle(); \
    return real gives; \
  }
SLOW(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o))
SLOW(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o))
SLOW(int, fdatasync, (int f), (f))
"""


def _statuses(service: Service, requests: int) -> list[int]:
    with httpx.Client(base_url=service.address, timeout=20) as client:
        return [client.get("/prediction", params={"text": str(n)}).status_code for n in range(requests)]


async def _until_workers(service: Service, count: int, without: frozenset[int] = frozenset()) -> set[int]:
    async with asyncio.timeout(30):
        while len(found := service.workers() - without) < count:
            await asyncio.sleep(0)
    return found


@asynccontextmanager
async def _limited(folder: Path) -> AsyncIterator[tuple[Service, set[int]]]:
    with serving(folder, "--mock", "--workers", "2", **_LIMIT) as service:
        yield service, await _until_workers(service, 2)


@pytest.mark.parametrize("size", [0, 10, 5_000])
async def test_a_service_goes_on_when_its_rate_file_is_cut(tmp_path: Path, size: int) -> None:
    async with _limited(tmp_path) as (service, workers):
        assert _statuses(service, 4) == [200, 200, 200, 429]
        os.truncate(tmp_path / "rates.tamis", size)
        statuses = _statuses(service, 8)
        assert set(statuses) == {200, 429}
        assert statuses[-1] == 429
        assert statuses.count(200) <= 3, "one burst more at most"
        assert service.workers() == workers, service.said
        assert service.stop() == 0


@pytest.mark.parametrize("damage", [b"\0" * 84, b"tamis rates 1\n\0\0" + b"?" * 68], ids=["zeros", "words"])
async def test_workers_agree_when_the_rate_header_is_damaged(tmp_path: Path, damage: bytes) -> None:
    async with _limited(tmp_path) as (service, workers):
        assert _statuses(service, 4)[-1] == 429
        with (tmp_path / "rates.tamis").open("r+b") as file:
            file.write(damage)
        os.kill(min(workers), signal.SIGKILL)  # its successor starts with the damaged file
        await _until_workers(service, 2, frozenset({min(workers)}))
        statuses = _statuses(service, 12)
        assert statuses[-1] == 429
        assert statuses.count(200) <= 6
        assert service.stop() == 0


@pytest.mark.parametrize("size", [0, 10, 84, 5_000])
def test_a_rate_file_cut_before_the_start_is_filled(tmp_path: Path, size: int) -> None:
    for _ in range(2):
        with serving(tmp_path, "--mock", is_program=True, **_LIMIT) as service:
            assert _statuses(service, 4)[-1] == 429
            assert service.stop() == 0
        os.truncate(tmp_path / "rates.tamis", size)


async def test_a_foreign_lock_on_the_rate_file_stops_nothing(tmp_path: Path) -> None:
    async with _limited(tmp_path) as (service, workers):
        command = [sys.executable, "-c", _LOCKER, str(tmp_path / "rates.tamis")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
            assert locker.stdout is not None and locker.stdout.readline() == b"locked\n"
            statuses = _statuses(service, 6)
            assert statuses == [200, 200, 200, 429, 429, 429]
            assert service.workers() == workers
            os.kill(min(workers), signal.SIGKILL)
            await _until_workers(service, 2, frozenset({min(workers)}))
            assert _statuses(service, 2) == [429, 429]
            assert "keeps the rate file locked" in service.said
            assert service.stop() == 0
            locker.communicate(b"\n")


def test_an_empty_host_is_refused_in_one_line(tmp_path: Path) -> None:
    for arguments, environ in ([], {"TAMIS_HOST": ""}), (["--host", ""], {}):
        done = subprocess.run(
            [sys.executable, "-m", "tamis", "serve", "--mock", *arguments],
            cwd=tmp_path,
            env=ENVIRON | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "must not be empty" in line


def test_a_low_limit_of_open_files_is_logged(tmp_path: Path) -> None:
    code = "from tamis.service.http.sockets import allow_connections; allow_connections(1000)"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 256; exec {sys.executable} -c '{code}'"],
        cwd=tmp_path,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "(ulimit -n) is 256, but TAMIS_MAX_CONNECTIONS=1000 needs 1700" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigusr1_is_ignored_and_sighup_reloads(tmp_path: Path, workers: str) -> None:
    with serving(
        tmp_path, "--mock", "--workers", workers, is_program=True, TAMIS_DRAIN_SECONDS="0.2"
    ) as service:
        service.process.send_signal(signal.SIGUSR1)
        assert _statuses(service, 2) == [200, 200]
        service.process.send_signal(signal.SIGHUP)
        for _ in waiting_for(service.process):
            if "received SIGHUP" in service.said:
                break
        assert _statuses(service, 2) == [200, 200]
        assert service.stop() == 0
        assert "ignored signal SIGUSR1" in service.said


@pytest.mark.parametrize("kind", ["FIFO", "folder"])
def test_a_key_file_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    keys = tmp_path / "keys.json"
    os.mkfifo(keys, 0o600) if kind == "FIFO" else keys.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tamis", "serve", "--mock", "--port", "0"],
        cwd=tmp_path,
        env=ENVIRON | {"TAMIS_REQUIRE_KEYS": "true", "TAMIS_KEYS_FILE": str(keys)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]  # behind the warning of the mock model
    assert "TAMIS_KEYS_FILE" in line


@pytest.mark.alone
async def test_a_slow_disk_kills_no_worker(tmp_path: Path) -> None:
    """Each write takes half a second, so a commit on the loop takes longer than the worker's timeout."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source, library, flag = (tmp_path / name for name in ("slow.c", "slow.so", "slow"))
    source.write_text(_SLOW_DISK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    settings = {"LD_PRELOAD": str(library), "SLOW_FLAG": str(flag), "TAMIS_DRAIN_SECONDS": "0"}
    store = f"sqlite:///{tmp_path}/calls.db"
    with serving(tmp_path, "--mock", "--workers", "2", "--store", store, **settings) as service:
        workers = await _until_workers(service, 2)
        assert _statuses(service, 5) == [200] * 5
        flag.touch()
        body = {"texts": ["a text " * 200 + str(number) for number in range(12)]}
        for _ in range(3):
            answer = httpx.post(f"{service.address}/predictions", json=body, timeout=60)
            assert answer.status_code == 200
        flag.unlink()
        assert service.workers() == workers, service.said
        assert "is silent" not in service.said and "heartbeat" not in service.said
        assert service.stop() == 0


_HANGS_ONCE = """
import asyncio, os, signal, sys
from pathlib import Path
from tamis.service.http.worker import WorkerChannel
from tamis.service.http.run import serve_as_worker

log = Path({log!r})
channel = WorkerChannel(int(sys.argv[1]))
config = channel.receive()
log.write_text((log.read_text() if log.exists() else "") + "x")

def hang():
    while True:
        pass

async def app(scope, receive, send):
    await receive()
    if len(log.read_text()) == 1:
        asyncio.get_running_loop().call_later(0.3, hang)
    else:
        os.kill(os.getppid(), signal.SIGTERM)
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    await send({{"type": "lifespan.shutdown.complete"}})

async def apply(*_):
    raise NotImplementedError

serve_as_worker(app, config, channel=channel, served_models="a model", apply=apply)
"""


@pytest.mark.alone
def test_a_loop_that_hangs_in_python_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "started"
    config = WorkerConfig(Settings(workers=1, worker_timeout_seconds=0.5, drain_seconds=0.0), [])
    supervisor = Supervisor(
        [sys.executable, "-c", _HANGS_ONCE.format(log=str(log))],
        config,
        listeners=Listeners([], are_given=True),
        clock=SystemClock(),
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        supervisor.run(on_start=lambda models: None, on_tick=lambda: None, on_stop=lambda: None)
    except WorkerError:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert log.read_text() == "xx"
    assert "missed its heartbeat" in caplog.text
