"""The end of a service: real processes, real signals, and no request that was sent left unanswered."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.processes import KeepAliveClient, Ledger, Service, restart_under_load, serving

pytestmark = pytest.mark.alone

_CLIENTS = 12
_SHORT = {"TAMIS_DRAIN_SECONDS": "0.5"}
"""Clients that a busy machine keeps from asking for that long find their idle connections closed."""


@pytest.mark.parametrize(
    ("cycles", "settings"), [(20, _SHORT), pytest.param(100, {}, marks=pytest.mark.soak)], ids=["20", "100"]
)
async def test_stopping_under_load_loses_no_request(
    tmp_path: Path, cycles: int, settings: dict[str, str]
) -> None:
    ledger = Ledger()
    for cycle in range(cycles):
        with serving(tmp_path, "--mock", is_program=cycle == 0, **settings) as service:
            await _stop_under_load(service, ledger)
            assert service.process.returncode == 0, service.said
    assert ledger.lost == [], ledger.lost
    assert ledger.statuses == {200}
    assert ledger.answered > 100 * cycles
    print(f"{cycles} stops under {_CLIENTS} clients: {ledger.answered} answered, 0 lost")  # noqa: T201


async def test_stopping_several_workers_under_load_loses_no_request(tmp_path: Path) -> None:
    ledger = Ledger()
    for _ in range(3):
        with serving(tmp_path, "--mock", "--workers", "2", **_SHORT) as service:
            await _stop_under_load(service, ledger)
            assert service.process.returncode == 0, service.said
    assert (ledger.lost, ledger.statuses) == ([], {200})


async def _stop_under_load(service: Service, ledger: Ledger) -> None:
    done = asyncio.Event()
    clients = [KeepAliveClient(service.port, ledger, number=number) for number in range(_CLIENTS)]
    enough = ledger.answered + 10 * _CLIENTS
    asking = [asyncio.create_task(client.ask_until(done)) for client in clients]
    while ledger.answered < enough:
        await asyncio.sleep(0)
    service.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(service.process.wait, 60)
    await asyncio.gather(*asking)  # they end because nobody listens


def test_stopping_service_is_not_ready_and_closes_connections(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", is_program=True, TAMIS_DRAIN_SECONDS="30") as service:
        assert httpx.get(f"{service.address}/health/ready").status_code == 200
        service.process.terminate()
        service.wait_for(b"STOPPING=1")
        response = httpx.get(f"{service.address}/health/ready")
        assert (response.status_code, response.json()["status"]) == (503, "stopping")
        assert response.headers["connection"] == "close"
        assert httpx.get(f"{service.address}/prediction?text=x").status_code == 200


def test_a_second_signal_ends_the_service_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", is_program=True, TAMIS_DRAIN_SECONDS="600") as service:
        service.process.terminate()
        service.wait_for(b"STOPPING=1")
        assert service.insist() == 1
        assert service.said.splitlines()[-1] == "tamis: second stop signal; terminated immediately"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_signal_that_arrives_twice_is_one_signal(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path, "--mock", "--workers", workers, is_program=True, **_SHORT) as service:
        service.process.terminate()
        service.wait_for(b"STOPPING=1")
        assert service.stop() == 0


def test_a_second_signal_ends_all_workers_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", "--workers", "2", TAMIS_DRAIN_SECONDS="600") as service:
        workers = service.workers()
        service.process.terminate()
        service.wait_for(b"STOPPING=1")
        assert service.insist() == 1
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert "workers were killed" in service.said.splitlines()[-1]


def test_stopping_waits_a_bounded_time_for_an_endless_request(tmp_path: Path) -> None:
    settings = {"TAMIS_DRAIN_SECONDS": "0", "TAMIS_STOP_SECONDS": "0.3"}
    with (
        serving(tmp_path, "--mock", is_program=True, **settings) as service,
        socket.create_connection(("127.0.0.1", service.port)) as slow,
    ):
        slow.sendall(
            b"POST /prediction HTTP/1.1\r\nhost: tamis\r\n"
            b"content-type: application/json\r\ncontent-length: 9\r\n\r\n"
        )
        assert service.stop() == 0


def test_stopped_service_has_stored_what_it_answered(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    with serving(tmp_path, "--mock", "--store", store, is_program=True, **_SHORT) as service:
        httpx.get(f"{service.address}/prediction?text=remember+me")
        assert service.stop() == 0
    with serving(tmp_path, "--mock", "--store", store, is_program=True, **_SHORT) as service:
        [call] = httpx.get(f"{service.address}/recent_log").json()
        assert call["input"] == "remember me"


async def test_workers_end_in_order_when_their_parent_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", "--workers", "2", **_SHORT) as service:
        workers = [os.pidfd_open(pid) for pid in service.workers()]
        service.process.kill()
        for worker in workers:
            with open(worker) as ended:
                await _readable(ended.fileno())


async def _readable(fd: int) -> None:
    """Wait for the end of the process behind a pidfd."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ended.set)
    async with asyncio.timeout(30):
        await ended.wait()


async def test_handover_of_a_given_socket_loses_no_request(tmp_path: Path) -> None:
    """As under systemd: the socket stays open, and requests wait in it for the next service."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        ledger = await restart_under_load(listener, tmp_path, port=port, **_SHORT)
    assert (ledger.lost, ledger.turned_away, ledger.statuses) == ([], 0, {200})
