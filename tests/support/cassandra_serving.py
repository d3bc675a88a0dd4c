"""Real servers on the cluster, and load on them. Knows the command line and HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tamis.clock import SystemClock
from tamis.storage import LogQuery, make_store, pages
from tests.support import processes
from tests.support.command_server import tamis_command
from tests.support.keyspaces import PATIENT
from tests.support.processes import Process

_CLIENTS = 8


@contextmanager
def serving(
    folder: Path, url: str, *, is_program: bool = False, **settings: str
) -> Iterator[tuple[Process, str]]:
    """Run a server of made-up answers on the store at `url`; give its process and address."""
    home = Path(tempfile.mkdtemp(dir=folder))  # several may run in one folder
    store = {"TAMIS_STORE": url, "TAMIS_SPOOL_FILE": str(folder / "spool.tamis")}
    with processes.serving(home, "--mock", is_program=is_program, **store, **settings) as service:
        yield service.process, service.address


def tamis(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        tamis_command(*arguments),
        env=processes.ENVIRON | settings,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@dataclass
class Load:
    """What happened to the requests of some clients that ask one after another."""

    acknowledged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each was sent, and how long it took."""

    def p99_seconds(self, since: float, until: float) -> float:
        took = sorted(seconds for sent, seconds in self.times if since <= sent < until)
        return took[len(took) * 99 // 100] if took else 0.0

    @property
    def slowest_seconds(self) -> float:
        return max(seconds for _, seconds in self.times)

    async def ask(self, client: httpx.AsyncClient, text: str) -> None:
        sent = time.monotonic()
        try:
            answer = await client.post("/prediction", json={"text": text})
        except httpx.TransportError as broken:
            self.failed.append(repr(broken))
            return
        self.times.append((sent, time.monotonic() - sent))
        if answer.status_code == 200:
            self.acknowledged.append(text)
        else:
            self.failed.append(answer.text)


@asynccontextmanager
async def under_load(address: str, prefix: str) -> AsyncIterator[Load]:
    """Send new texts without a pause until the block ends, and let what was sent be answered."""
    load, is_over = Load(), asyncio.Event()

    async def ask_on(number: int, client: httpx.AsyncClient) -> None:
        count = 0
        while not is_over.is_set():
            count += 1
            failures = len(load.failed)
            await load.ask(client, f"{prefix} {number} {count}")
            if len(load.failed) > failures + 100:
                return

    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        clients = [asyncio.create_task(ask_on(number, client)) for number in range(_CLIENTS)]
        try:
            yield load
        finally:
            is_over.set()
            await asyncio.gather(*clients)


async def until_requests(load: Load, more: int) -> None:
    """Return when so many more requests have come to an end."""
    goal = len(load.times) + len(load.failed) + more
    while len(load.times) + len(load.failed) < goal:
        await asyncio.sleep(0.01)  # it is another process that works


async def until_ready(address: str, seconds: float = 60) -> None:
    """Return when the server says that nothing waits any more."""
    async with asyncio.timeout(seconds), httpx.AsyncClient(base_url=address, timeout=10) as client:
        while (await client.get("/health/ready")).json()["status"] != "ready":
            await asyncio.sleep(0.1)


async def logged(url: str, caller: str = "127.0.0.1") -> Counter[str]:
    """Return how often each text is in the caller's log."""
    store = make_store(url, SystemClock(), PATIENT)
    await store.open()
    try:
        return Counter([one.text async for page in pages(store.log, LogQuery(caller=caller)) for one in page])
    finally:
        await store.close()


def lost_or_doubled(load: Load, log: Counter[str]) -> list[str]:
    """Return the acknowledged texts that are not in the log exactly once, and all that are there twice."""
    return [text for text in load.acknowledged if log[text] != 1] + [text for text in log if log[text] > 1]
