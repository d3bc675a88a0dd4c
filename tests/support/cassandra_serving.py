"""Real servers on the cluster, and load on them. Knows the command line and HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tamis.clock import SystemClock
from tamis.settings import Settings
from tamis.settings_source import variables
from tamis.storage import LogQuery, make_store, pages
from tests.support.keyspaces import PATIENT

_SETTINGS = {name for item in Settings.model_fields.items() for name in variables(*item)}
_CLIENTS = 8


def environment(**settings: str) -> dict[str, str]:
    """Return this environment with these settings of Tamis and no others."""
    return {name: value for name, value in os.environ.items() if name not in _SETTINGS} | settings


@contextmanager
def serving(folder: Path, url: str, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server of made-up answers on the store at `url`; give its process and address."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamis", "serve", "--mock", "--port", "0"],
            cwd=folder,
            env=environment(TAMIS_STORE=url, TAMIS_SPOOL_FILE=str(folder / "spool.tamis"), **settings),
            stderr=subprocess.PIPE,
            stdout=told,
        )
        try:
            yield process, _address(process)
        finally:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.decode())
        if found := re.match(r"Address +(http://\S+)", lines[-1]):
            return found[1]
    raise AssertionError("".join(lines))


def tamis(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tamis", *arguments],
        env=environment(**settings),
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
