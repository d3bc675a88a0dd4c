"""Processor time of one request of each dialect, with the fast path and without, in one process.

    python benchmarks/dialects_cpu.py [--rounds 12]

No network: the applications are called directly, all in every round. Every text is new. Prints the median
and the smallest of the rounds, which a busy machine falsifies less than requests per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

_REQUESTS = 100


async def _ask(app: Any, path: str, body: bytes) -> None:
    coming = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"tamis.test"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": ""}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app(scope | {"client": ("192.0.2.7", 1), "server": ("tamis.test", 80)}, receive, send)
    if sent[0]["status"] != 200:
        raise SystemExit(f"{path} answered {sent}")


async def _measure(rounds: int) -> None:
    from tamis.settings import Settings
    from tests.support.dialect_requests import ROUTES
    from tests.support.serving import make_app, started

    apps = {"fast path": make_app(Settings()), "router": make_app(Settings(fast_path=False))}
    routes: list[Any] = [("native", "/prediction", lambda texts: {"text": texts[0]})]
    routes += [(one.dialect, one.path, one.body) for one in {one.dialect: one for one in ROUTES}.values()]
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with started(apps["fast path"]), started(apps["router"]):
        for number in range(rounds):
            for dialect, path, make in routes:
                for name, app in apps.items():
                    texts = [f"win {number} {dialect} {name} {index}" for index in range(_REQUESTS)]
                    bodies = [json.dumps(make([text])).encode() for text in texts]
                    began = time.process_time()
                    for body in bodies:
                        await _ask(app, path, body)
                    spent[dialect, name].append((time.process_time() - began) / _REQUESTS * 1e6)
    for (dialect, name), own in spent.items():
        ratios = [base / one for base, one in zip(spent["native", "fast path"], own, strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{dialect:8}{name:10}{statistics.median(own):7.0f} µs, at least {min(own):4.0f} µs"
              f"   native / this {middle:.2f} ({low:.2f}-{high:.2f})")  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    asyncio.run(_measure(parser.parse_args().rounds))
