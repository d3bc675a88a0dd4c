"""Clients that send and read as slowly as they can, beside clients that do not."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from tests.support.processes import KeepAliveClient, Ledger, Service, serving

pytestmark = pytest.mark.alone

_SETTINGS = {
    "TAMIS_HEADER_SECONDS": "2",
    "TAMIS_BODY_SECONDS": "2",
    "TAMIS_SLOW_READ_SECONDS": "2",
    "TAMIS_MAX_CONNECTIONS": "1000",
}
_LATEST_SECONDS = 2 + 2
"""A slow reader is measured from the first look at it to one after its time is over."""

_POST = (
    b"POST /prediction HTTP/1.1\r\nhost: tamis\r\n"
    b"content-type: application/json\r\ncontent-length: 999\r\n\r\n"
)
_LARGE = b"GET /redoc/redoc.standalone.js HTTP/1.1\r\nhost: tamis\r\n\r\n"


@pytest.mark.parametrize("slow_clients", [60, pytest.param(500, marks=pytest.mark.soak)])
async def test_slow_clients_are_closed_at_the_deadline(tmp_path: Path, slow_clients: int) -> None:
    with serving(
        tmp_path, "--mock", "--store", f"sqlite:///{tmp_path}/calls.db", is_program=True, **_SETTINGS
    ) as service:
        await _siege(service, slow_clients)
        before = _resident_kb(service)
        ledger, longest = await _siege(service, slow_clients)
        grown = _resident_kb(service) - before
    assert (ledger.lost, ledger.statuses) == ([], {200})
    assert longest < _LATEST_SECONDS
    assert grown < 8_000
    print(  # noqa: T201
        f"{slow_clients} slow clients closed within {longest:.1f} s beside {ledger.answered} answers; "
        f"{grown} KB more than after the first siege"
    )


async def _siege(service: Service, slow_clients: int) -> tuple[Ledger, float]:
    """Return what normal clients saw, and how long the slowest of the slow ones was let be."""
    ledger, done = Ledger(), asyncio.Event()
    normal = [KeepAliveClient(service.port, ledger, number=number, always_new=False) for number in range(4)]
    asking = [asyncio.create_task(client.ask_until(done)) for client in normal]
    kinds = [_send_headers_slowly, _send_body_slowly, _read_slowly]
    slow = [kinds[number % 3](service.port) for number in range(slow_clients)]
    longest = max(await asyncio.gather(*slow))
    done.set()
    await asyncio.gather(*asking)
    return ledger, longest


async def _send_headers_slowly(port: int) -> float:
    return await _drip(port, b"GET / HTTP/1.1\r\nhost: tamis\r\n")


async def _send_body_slowly(port: int) -> float:
    return await _drip(port, _POST)


async def _drip(port: int, start: bytes) -> float:
    """Send a byte every now and then until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(start)
    hung_up = asyncio.create_task(reader.read())
    while not (await asyncio.wait([hung_up], timeout=0.2))[0]:
        writer.write(b"x")
    writer.close()
    assert hung_up.result().startswith(b"HTTP/1.1 408")
    return time.monotonic() - began


async def _read_slowly(port: int) -> float:
    """Ask for a large answer and read none of it."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, _LARGE)
        try:
            async with asyncio.timeout(30):
                while True:  # what is sent to a connection that was cut off is answered by a reset
                    await loop.sock_sendall(client, b"x")
                    await asyncio.sleep(0.2)
        except ConnectionError:
            return time.monotonic() - began


def _resident_kb(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
