"""Clients that put a real service under load and keep a ledger of what was answered."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.support.processes import read_answer


@dataclass
class TextLedger:
    """What the clients know: `acknowledged` texts were answered, of `sent` ones nobody knows."""

    sent: int = 0
    acknowledged: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_seconds: float = 0.0


class Load:
    """Some connections that ask without a pause until they are stopped or the service is gone."""

    def __init__(self, port: int, name: str, *, connections: int = 8):
        self.ledger = TextLedger()
        self._port, self._name, self._connections = port, name, connections
        self._stop = threading.Event()
        self._enough = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    @contextmanager
    def running(self) -> Iterator[TextLedger]:
        """Ask in a thread of its own."""
        self._thread.start()
        try:
            yield self.ledger
        finally:
            self._stop.set()
            self._thread.join()

    def wait_for_more(self, texts: int) -> None:
        """Return when that many more texts have been acknowledged."""
        enough = len(self.ledger.acknowledged) + texts
        with self._enough:
            assert self._enough.wait_for(lambda: len(self.ledger.acknowledged) >= enough, timeout=30)

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask(number) for number in range(self._connections)))

    async def _ask(self, connection: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionError:
            return
        try:
            for number in count():
                if self._stop.is_set():
                    return
                size = 1 if number % 4 else 5  # singles and lists mixed
                texts = [f"{self._name} {connection} {number} {place}" for place in range(size)]
                self.ledger.sent += size
                began = time.monotonic()
                writer.write(request({"text": texts[0]} if size == 1 else {"texts": texts}))
                status, _ = await read_answer(reader)
                self._note(status, texts, time.monotonic() - began)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _note(self, status: int, texts: list[str], seconds: float) -> None:
        with self._enough:
            self.ledger.statuses[status] += 1
            self.ledger.slowest_seconds = max(self.ledger.slowest_seconds, seconds)
            if status == 200:
                self.ledger.acknowledged += texts
            self._enough.notify()


def request(body: dict[str, Any], *, caller: str = "", path: str = "") -> bytes:
    """Return a whole request for one text or for some, as a proxy hands it on for `caller`."""
    content = json.dumps(body).encode()
    path = path or ("/predictions" if "texts" in body else "/prediction")
    head = f"POST {path} HTTP/1.1\r\nhost: tamis\r\ncontent-type: application/json\r\n"
    if caller:
        head += f"x-forwarded-for: {caller}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n%s" % (len(content), content)
