"""Log writes and cache reads through the store against the bare driver, on three nodes, in one run.

    python benchmarks/cassandra_store.py

It starts and stops the nodes itself; they need a JDK 17 and Maven. Rounds alternate, so that a busy machine
treats both alike.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from cassandra import ConsistencyLevel

sys.path.insert(0, str(Path(__file__).parents[1]))

from tamis.clock import SystemClock
from tamis.storage import CallRecord, Store, TimeIds, make_store
from tamis.storage.cassandra.partitions import Partition
from tamis.storage.cassandra.tables import CALLS
from tests.support.cassandra_cluster import Cluster
from tests.support.keyspaces import PATIENT, add_users, admin, migrate, url_of

_IN_FLIGHT = 128
SCORES = {"ham": 0.1, "spam": 0.9}


def make_calls(ids: TimeIds, count: int) -> list[CallRecord]:
    """Return calls of one caller, made now."""
    return [CallRecord(ids.next(), "bench", f"a text {i}", "ham", 0.9, "m", False) for i in range(count)]


def bare(session, statement, values) -> float:
    """Return requests a second with the driver alone, as many on their way as the store may have."""
    from cassandra.concurrent import execute_concurrent_with_args

    started = time.perf_counter()
    execute_concurrent_with_args(session, statement, values, concurrency=_IN_FLIGHT)
    return len(values) / (time.perf_counter() - started)


async def through_store(one: Callable[[int], Awaitable[object]], count: int) -> float:
    """Return requests a second when so many callers each ask for one thing after the other."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await one(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(_IN_FLIGHT)))
    return count / (time.perf_counter() - started)


async def lone_p50_ms(store: Store, ids: TimeIds) -> float:
    """Return the median time of what one prediction asks of a store, when nothing else happens."""
    took = []
    for number in range(300):
        key = number.to_bytes(32, "big")
        [call] = make_calls(ids, 1)
        started = time.perf_counter()
        await store.cache.get_many([key])
        await store.log.append([call])
        await store.cache.put_many({key: SCORES})
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e3


async def measure(cluster: Cluster, keyspace: str, *, n_requests: int = 6_000, rounds: int = 3) -> None:
    """Print one line for each round."""
    clock = SystemClock()
    ids, url = TimeIds(clock), url_of(cluster, keyspace)
    store = make_store(url, clock, PATIENT)
    await store.open()
    keys = [number.to_bytes(32, "little") for number in range(n_requests)]
    await store.cache.put_many(dict.fromkeys(keys, SCORES))
    names = ", ".join(name for name in CALLS.columns if name != "caller")
    with admin(cluster) as session:
        insert = session.prepare(
            f"INSERT INTO {keyspace}.calls (caller, hour, shard, {names}) "
            f"VALUES (?, ?, ?{', ?' * len(names.split(','))})"
        )
        insert.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        read = session.prepare(f"SELECT scores, expires_at FROM {keyspace}.answers WHERE key = ?")
        read.consistency_level = ConsistencyLevel.LOCAL_ONE
        for round_number in range(rounds + 1):
            calls = make_calls(ids, n_requests)
            rows = [
                (*Partition.of(one.caller, one.id, shards=CALLS.shards).key, *CALLS.values_of(one))
                for one in make_calls(ids, n_requests)
            ]
            writes = await asyncio.to_thread(bare, session, insert, rows)
            stored = await through_store(
                lambda number, calls=calls: store.log.append([calls[number]]), n_requests
            )
            reads = await asyncio.to_thread(bare, session, read, [(key,) for key in keys])
            found = await through_store(lambda number: store.cache.get_many([keys[number]]), n_requests)
            if round_number > 0:  # the first warms the nodes up
                print(f"writes/s: bare {writes:7,.0f}  store {stored:7,.0f}  ratio {stored / writes:.2f}")
                print(f"reads/s:  bare {reads:7,.0f}  store {found:7,.0f}  ratio {found / reads:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        sqlite = make_store(f"sqlite:///{Path(folder) / 'bench.db'}", clock)
        await sqlite.open()
        there, here = await lone_p50_ms(store, ids), await lone_p50_ms(sqlite, ids)
        await sqlite.close()
    print(f"one look-up and one append, p50: Cassandra {there:.2f} ms, SQLite {here:.2f} ms")
    await store.close()


def main() -> None:
    """Start the nodes, measure and stop them."""
    with Cluster() as cluster:
        add_users(cluster)
        migrate(url_of(cluster, "bench"))
        asyncio.run(measure(cluster, "bench"))


if __name__ == "__main__":
    main()
