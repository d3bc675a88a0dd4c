"""How long predictions take while callers read the call log, and the memory that unread responses cost.

    python benchmarks/log_readers.py [--readers 60] [--seconds 8]

Rows are made up: texts of 10,000 control characters, which JSON makes six times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

from tamis.clock import SystemClock
from tamis.storage import CallRecord, TimeIds, make_store
from tests.support.process_stats import shared_mb
from tests.support.processes import Service, serving

TEXT = "\x01" * 10_000
ROWS_EACH = 500
UNREAD_SECONDS = 2.0


async def fill(path: Path, readers: int) -> None:
    """Log the calls of each reader."""
    clock = SystemClock()
    ids, store = TimeIds(clock), make_store(f"sqlite:///{path}", clock)
    await store.open()
    for reader in range(readers):
        for _ in range(0, ROWS_EACH, 100):
            caller = f"10.0.0.{reader}"
            await store.log.append(
                [CallRecord(ids.next(), caller, TEXT, "ham", 0.9, "m", False) for _ in range(100)]
            )
    await store.close()


def ask_for_log(service: Service, reader: int) -> socket.socket:
    """Ask for one caller's log and read nothing yet."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.connect(("127.0.0.1", service.port))
    head = f"GET /log?format=ndjson HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.{reader}\r\n\r\n"
    client.sendall(head.encode())
    return client


def read_on(clients: list[socket.socket], is_over: threading.Event) -> int:
    """Read what comes on all sockets until told to stop; return the bytes."""
    size = 0
    for client in clients:
        client.setblocking(False)
    while not is_over.is_set():
        for client in clients:
            try:
                size += len(client.recv(1 << 20))
            except BlockingIOError:
                continue
        time.sleep(0.001)
    return size


def predict(service: Service, seconds: float) -> list[float]:
    """Ask for one prediction after the other; return how long each took, sorted."""
    took = []
    with httpx.Client(base_url=service.address, timeout=60) as http:
        until = time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            http.post("/prediction", json={"text": str(began)}).raise_for_status()
            took.append(time.monotonic() - began)
    return sorted(took)


def show(what: str, took: list[float]) -> None:
    """Print the latencies of some predictions."""
    p99 = took[len(took) * 99 // 100]
    print(
        f"{what}: {len(took):,} predictions, p50 {took[len(took) // 2] * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(fill(folder / "tamis.db", options.readers))
        settings = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1"}
        with serving(folder, "--mock", "--store", "sqlite:///tamis.db", **settings) as service:
            show("quiet", predict(service, options.seconds))
            before = shared_mb(service.process.pid)
            clients = [ask_for_log(service, reader) for reader in range(options.readers)]
            time.sleep(UNREAD_SECONDS)
            print(f"{options.readers} unread responses: {shared_mb(service.process.pid) - before:.1f} MB")
            is_over = threading.Event()
            reading = threading.Thread(target=read_on, args=(clients, is_over))
            reading.start()
            show(f"{options.readers} readers", predict(service, options.seconds))
            is_over.set()
            reading.join()


if __name__ == "__main__":
    main()
