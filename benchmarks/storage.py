"""How fast calls are logged: commits on the event loop's own thread against a writer's thread.

    python benchmarks/storage.py [--rounds 7] [--seconds 2]

All ways run in turn in one process, so that a busy machine slows all; the ratio of neighbours
is what counts. Each append is what one turn of the loop brings: a dozen calls with new texts, which
were looked up before, and their answers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tamis.clock import SystemClock
from tamis.storage import CacheKeys, CallRecord, StoreOptions, TimeIds
from tamis.storage.sqlite import SqliteStore

CALLS_OF_A_TURN = 12
WAYS = {"loop": StoreOptions(), "writer": StoreOptions(), "full": StoreOptions(full_durability=True)}


async def measure(way: str, folder: Path, seconds: float) -> tuple[float, float, float]:
    """Return rows a second, and the 50th and 99th percentile of a turn in milliseconds."""
    clock = SystemClock()
    store = SqliteStore(folder / f"{way}.db", clock, WAYS[way])
    await store.open()
    if way == "writer":
        store._opened().commit._only_threaded = True  # not a setting: nobody should want it
    ids, keys = TimeIds(clock), CacheKeys(store.cache.secret, model="m")
    latencies: list[float] = []
    end, number = time.perf_counter() + seconds, 0
    while (started := time.perf_counter()) < end:
        numbers = range(number, number + CALLS_OF_A_TURN)
        texts = [f"{n} free entry in a weekly competition, text WIN to 80086 now" for n in numbers]
        answers = {keys.key(text): {"ham": 0.03, "spam": 0.97} for text in texts}
        await store.cache.get_many([*answers])
        named = zip(ids.allocate(CALLS_OF_A_TURN), texts, strict=True)
        calls = [CallRecord(id, "10.0.0.1", text, "spam", 0.97, "m", False) for id, text in named]
        await store.log.append(calls)
        await store.cache.put_many(answers)
        latencies.append(time.perf_counter() - started)
        await asyncio.sleep(0)
        number += CALLS_OF_A_TURN
    await store.close()
    percentiles = statistics.quantiles(latencies, n=100)
    return number / seconds, percentiles[49] * 1e3, percentiles[98] * 1e3


def main() -> None:
    """Measure all ways in turn and print the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    results: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for done in range(arguments.rounds):
        for way in WAYS:
            with (
                tempfile.TemporaryDirectory() as folder,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
            ):
                results[way].append(loop.run(measure(way, Path(folder), arguments.seconds)))
        print(f"round {done + 1} of {arguments.rounds}", file=sys.stderr)
    print("commit    rows/s    p50 ms    p99 ms")
    for way, measured in results.items():
        rate, p50, p99 = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{way:8}{rate:8.0f}{p50:10.2f}{p99:10.2f}")
    for way in ("writer", "full"):
        ratios = [here[0] / there[0] for here, there in zip(results["loop"], results[way], strict=True)]
        print(f"loop / {way}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
