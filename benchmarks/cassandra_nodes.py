"""Checks the capacity plan of docs/scale.md on clusters of one, two and three real Cassandra nodes.

    python benchmarks/cassandra_nodes.py [--rows 2000] [--rounds 6] [--nodes 1 2 3] [--seconds 2]

Sends rows, look-ups and answers, then new texts by as many `tamis serve` processes as there are nodes. The
plan: an operation costs what it costs in the smallest cluster with as many copies, however many nodes there
are; a new text costs what its operations cost, times a factor that is the same for all clusters. That is
printed beside what they took. All nodes share this machine, so processor time is compared, not speed; that
of compiling Java is left out.

Everything runs on one core, the nodes with the lower priority: so they always have requests, as in a busy
cluster. An idle thread of a node polls every 10 µs, which on nodes with little to do costs more than they do.
Real-time priorities need root, and make other work of the machine nearly irrelevant.

Nodes use Java's first compiler only. The second takes minutes of load, and longer the more nodes share the
machine, so the same request would cost less on one node than on three. For the cost after these minutes set
JDK_JAVA_OPTIONS=-XX:-UseDynamicNumberOfCompilerThreads and give --nodes 1 --rows 20000.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.serving import Load, make_texts, run_wrk, start_server
from tamis.clock import SystemClock
from tamis.storage import CallRecord, Store, TimeIds, make_store
from tamis.storage.cassandra.tables import CALLS
from tests.support.cassandra_cluster import PERIODIC, Cluster, Node
from tests.support.keyspaces import PATIENT, add_users, url_of
from tests.support.samples import messages

_IN_FLIGHT = 64
"""Requests to each node, connections to each service: a node that reads several requests at once needs less
for each, so operations and new texts can be compared only under the same load."""
_PATIENT_STORE, _PATIENT_SERVICE = "timeout=10&cache_timeout=5", {"TAMIS_MAX_QUEUE_SECONDS": "30"}
"""On a busy machine requests are slow; a refused one, or a row in the spool, would not be counted."""
_IDLE_SECONDS = 4
_WARM_ROUNDS = 3
_JAVA_OPTIONS = "-XX:-UseDynamicNumberOfCompilerThreads -XX:TieredStopAtLevel=1"
_LIST = 32
_SCORES = {"ham": 0.1, "spam": 0.9}
_ALONE, _IN_LISTS, _MISS, _STORED = "row alone", f"row in lists of {_LIST}", "look-up", "answer stored"
_OPERATIONS = (_ALONE, _IN_LISTS, _MISS, _STORED)
_NEW_TEXT, _ROW_REQUESTS = "new text of services", "row requests"
"""What `POST /prediction` with a new text asks of the cluster: a look-up and an answer, each one request, and
its row in a request with rows of other texts; and the number of these requests per text."""
_COMPILERS = ("C1 Compiler", "C2 Compiler")
_CPUCLOCK_SCHED = 2  # with a process's number: the clock that `clock_getcpuclockid` returns

Costs = Mapping[str, float]
"""CPU seconds of all nodes per row, by operation, what idle nodes use left out; `_ROW_REQUESTS`: a count."""


class Plan(NamedTuple):
    """CPU seconds of all nodes per row, by number of copies and operation, whatever the number of nodes."""

    costs: Mapping[int, Costs]

    @classmethod
    def of(cls, measured: Mapping[tuple[int, int], Costs]) -> Plan:
        """Take the costs by (nodes, copies) of the smallest clusters."""
        return cls({copies: costs for (_, copies), costs in sorted(measured.items(), reverse=True)})

    def cost(self, operation: str, copies: int) -> float:
        """Return the cost of an operation."""
        return self.costs[copies][operation]

    def operations(self, copies: int, *, row_requests: float) -> float:
        """Return the cost of the operations of a new text, whose row shares requests with other texts."""
        alone, in_lists = self.cost(_ALONE, copies), self.cost(_IN_LISTS, copies)
        request = (alone - in_lists) / (1 - expected_requests(_LIST))
        row = alone - request * (1 - row_requests)
        return self.cost(_MISS, copies) + self.cost(_STORED, copies) + row


def expected_requests(texts: int) -> float:
    """Return the row requests per text of so many texts sent together: one for each shard among them."""
    shards = CALLS.shards
    return shards * (1 - (1 - 1 / shards) ** texts) / texts


def main() -> None:
    """Print a line for each cluster, number of copies and operation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000, help="of each operation in a round")
    parser.add_argument("--rounds", type=int, default=6, help="short ones: the lower quartile counts")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seconds", type=int, default=2, help="of requests to tamis serve in a round")
    options = parser.parse_args()
    os.environ.setdefault("JDK_JAVA_OPTIONS", _JAVA_OPTIONS)
    measured: dict[tuple[int, int], Costs] = {}
    cores = os.sched_getaffinity(0)
    for nodes in options.nodes:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        with Cluster(nodes, commitlog=PERIODIC) as cluster:
            add_users(cluster)
            found = asyncio.run(measure(cluster, options.rows, rounds=options.rounds, core=max(cores)))
            _print_disk(cluster, n_rows=2 * options.rows * (_WARM_ROUNDS + options.rounds))
            idle = _idle_cores(cluster)
            print(f"{nodes} nodes: {idle / nodes:.3f} of a core each when idle", flush=True)
            for copies, costs in found.items():
                new = _costs_of_services(
                    cluster, copies, seconds=options.seconds, rounds=options.rounds, idle=idle
                )
                measured[nodes, copies] = {**costs, **new}
            _print_costs(Plan.of(measured), nodes, measured)
    _print_new_texts(Plan.of(measured), measured)


def _share_a_core(cluster: Cluster, core: int) -> None:
    """Move this process, what it starts and all nodes to one core, where nodes run when no other does."""
    processes = [(os.getpid(), 2), *((node.pid, 1) for node in cluster.nodes)]
    for number, priority in processes:
        for thread in _threads(number):
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), {core})
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(priority))


def _threads(number: int) -> Iterable[Path]:
    return Path(f"/proc/{number}/task").iterdir()


def _print_costs(plan: Plan, nodes: int, measured: Mapping[tuple[int, int], Costs]) -> None:
    for copies, name in itertools.product(range(1, nodes + 1), _OPERATIONS):
        _print_check(nodes, copies, name, plan.cost(name, copies), measured[nodes, copies][name])


def _print_new_texts(plan: Plan, measured: Mapping[tuple[int, int], Costs]) -> None:
    sums = {
        (nodes, copies): plan.operations(copies, row_requests=costs[_ROW_REQUESTS])
        for (nodes, copies), costs in measured.items()
    }
    factor = statistics.median(measured[cluster][_NEW_TEXT] / cost for cluster, cost in sums.items())
    print(f"a new text of services costs {factor:.2f} times its operations")
    for (nodes, copies), cost in sums.items():
        costs = measured[nodes, copies]
        print(f"{nodes} nodes, {copies} copies: {costs[_ROW_REQUESTS]:.2f} row requests per new text")
        _print_check(nodes, copies, _NEW_TEXT, cost * factor, costs[_NEW_TEXT])


def _print_check(nodes: int, copies: int, name: str, predicted: float, cost: float) -> None:
    print(
        f"{nodes} nodes, {copies} copies, {name:20} {predicted * 1e6:6.0f} CPU µs predicted, "
        f"{cost * 1e6:6.0f} measured ({cost / predicted:.2f}x)",
        flush=True,
    )


async def measure(
    cluster: Cluster, n_rows: int, *, rounds: int, warm: int = _WARM_ROUNDS, core: int | None = None
) -> dict[int, Costs]:
    """Return the costs by number of copies, of rounds that alternate between these numbers."""
    stores = {copies: await _opened(cluster, copies) for copies in range(1, len(cluster.nodes) + 1)}
    if core is not None:  # not before: nodes of low priority take long to agree on tables
        _share_a_core(cluster, core)
    load = _RowLoad(cluster, n_rows)
    found: dict[int, list[Costs]] = {copies: [] for copies in stores}
    for store in [*stores.values()] * warm:
        await load.costs(store)
    load.idle = _idle_cores(cluster)  # not before: a node that has just started is not idle
    for copies, store in [*stores.items()] * rounds:
        found[copies].append(await load.costs(store))
    for store in stores.values():
        await store.close()
    return {
        copies: {name: _low(costs[name] for costs in many) for name in many[0]}
        for copies, many in found.items()
    }


def _low(found: Iterable[float]) -> float:
    """Return the lower quartile: what else the machine does makes the same work cost more, never less."""
    return float(np.quantile([*found], 0.25))


async def _opened(cluster: Cluster, copies: int) -> Store:
    options = replace(PATIENT, cluster=replace(PATIENT.cluster, replication=str(copies)))
    store = make_store(url_of(cluster, f"copies_{copies}"), SystemClock(), options)
    await store.migrate()
    await store.open()
    return store


class _RowLoad:
    """Rows and answers that were never sent before."""

    def __init__(self, cluster: Cluster, n_rows: int):
        self._cluster, self._n_rows, self.idle = cluster, n_rows, 0.0
        self._ids, self._numbers = TimeIds(SystemClock()), itertools.count()
        self._texts = messages(1_000).texts

    async def costs(self, store: Store) -> Costs:
        """Return what each operation takes."""
        keys = [number.to_bytes(32, "little") for number in self._some_numbers()]
        alone, many = ([self._call(number) for number in self._some_numbers()] for _ in range(2))
        lists = [many[start : start + _LIST] for start in range(0, self._n_rows, _LIST)]
        return {
            _ALONE: await self._cost(store.log.append([call]) for call in alone),
            _IN_LISTS: await self._cost(store.log.append(calls) for calls in lists),
            _MISS: await self._cost(store.cache.get_many([key]) for key in keys),
            _STORED: await self._cost(store.cache.put_many({key: _SCORES}) for key in keys),
        }

    def _some_numbers(self) -> list[int]:
        return list(itertools.islice(self._numbers, self._n_rows))

    def _call(self, number: int) -> CallRecord:
        text = f"{self._texts[number % len(self._texts)]} {number}"
        return CallRecord(self._ids.next(), "bench", text, "ham", 0.9, "m", False, "ham", "spam", "1")

    async def _cost(self, requests: Iterator[Awaitable[object]]) -> float:
        async def client() -> None:
            for request in requests:
                await request

        watch = _CpuWatch(self._cluster, self.idle)
        await asyncio.gather(*(client() for _ in range(_IN_FLIGHT * len(self._cluster.nodes))))
        return watch.cpu_seconds() / self._n_rows


class _CpuWatch:
    """What the nodes have used since, beside what they use when idle: `idle` CPU seconds per second."""

    def __init__(self, cluster: Cluster, idle: float = 0.0):
        self._cluster, self._idle = cluster, idle
        self._before, self._began = _cpu_seconds(cluster), time.perf_counter()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far."""
        took = time.perf_counter() - self._began
        return _cpu_seconds(self._cluster) - self._before - self._idle * took


def _idle_cores(cluster: Cluster) -> float:
    """Return the CPU seconds per second of all nodes without requests."""
    watch = _CpuWatch(cluster)
    time.sleep(_IDLE_SECONDS)
    return watch.cpu_seconds() / _IDLE_SECONDS


def _cpu_seconds(cluster: Cluster) -> float:
    """Return what all nodes have used, their threads that compile Java left out."""
    return sum(_node_cpu_seconds(node) for node in cluster.nodes)


def _node_cpu_seconds(node: Node) -> float:
    """Return the process's seconds, those of ended threads included, without those of its compilers."""
    compiling = 0
    for task in _threads(node.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if (task / "comm").read_text().startswith(_COMPILERS):
                compiling += int((task / "schedstat").read_text().split()[0])
    return time.clock_gettime((~node.pid << 3) | _CPUCLOCK_SCHED) - compiling / 1e9


def _costs_of_services(cluster: Cluster, copies: int, *, seconds: int, rounds: int, idle: float) -> Costs:
    """Return the cost of a new text of as many services as nodes; print what the services use."""
    n, costs, own, n_texts = len(cluster.nodes), [], [], 0
    load = Load("", connections=_IN_FLIGHT, fresh=True, texts_each=1)
    store = f"{url_of(cluster, f'copies_{copies}')}&{_PATIENT_STORE}"
    serve = [sys.executable, "-m", "tamis", "serve", "--mock", "--store", store]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running, ThreadPoolExecutor(n) as threads:
        texts = make_texts(Path(folder))
        spools = [str(Path(folder) / f"spool-{number}.tamis") for number in range(n)]
        servers = [
            running.enter_context(start_server("tamis", serve, TAMIS_SPOOL_FILE=spool, **_PATIENT_SERVICE))
            for spool in spools
        ]
        before = _client_requests(cluster)
        for _ in range(_WARM_ROUNDS + rounds):
            watch = _CpuWatch(cluster, idle)
            results = [*threads.map(lambda server: run_wrk(server, load, texts, seconds), servers)]
            requests = sum(result.requests for result in results)
            costs.append(watch.cpu_seconds() / requests)
            n_texts += requests
            own.append(statistics.mean(result.cpu_us for result in results))
        asked = _client_requests(cluster) - before
    service_us = _low(own[_WARM_ROUNDS:])
    print(f"{n} nodes, {copies} copies: a service uses {service_us:.0f} CPU µs per new text", flush=True)
    return {_NEW_TEXT: _low(costs[_WARM_ROUNDS:]), _ROW_REQUESTS: asked / n_texts - 2}


def _client_requests(cluster: Cluster) -> int:
    """Return how many requests all nodes have answered: a count, whatever else the machine does."""
    pools = [line.split() for node in cluster.nodes for line in node.nodetool("tpstats").splitlines()]
    return sum(int(pool[3]) for pool in pools if pool and pool[0] == "Native-Transport-Requests")


def _print_disk(cluster: Cluster, *, n_rows: int) -> None:
    """Write all rows to disk and merge the files once; print what that takes for each copy of a row."""
    n = len(cluster.nodes)
    used = _cost_of_merging(cluster, "calls") - _cost_of_merging(cluster, "feedback")  # which is empty
    stored = sum(node.data_bytes(f"copies_{n}/calls-*") for node in cluster.nodes)
    print(
        f"{n} nodes, {n} copies: a copy of a row has {stored / n_rows / n:.0f} bytes on disk, "
        f"{used / n_rows / n * 1e6:.0f} CPU µs to write and merge once",
        flush=True,
    )


def _cost_of_merging(cluster: Cluster, table: str) -> float:
    watch = _CpuWatch(cluster)
    for node in cluster.nodes:
        for command in ("flush", "compact"):
            node.nodetool(command, f"copies_{len(cluster.nodes)}", table)
    return watch.cpu_seconds()


if __name__ == "__main__":
    main()
