"""Checks the capacity plan of docs/scale.md on Ray clusters of one, two and three node processes.

    python benchmarks/ray_nodes.py [--rows 300000] [--nodes 1 2 3]

A run of `tamis score` with one worker gives the cost of a row; one of 1,000 rows on a cluster of one node
gives that of starting the driver and a node's scoring process. From these the plan predicts what larger runs
need, which is printed beside what they took. The nodes have a processor each and share this machine: CPU
seconds show whether work grows with nodes, seconds only do while there are no more nodes than idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scoring import write_rows
from tamis.training.train import train
from tests.support.process_stats import children_of, cpu_seconds
from tests.support.samples import messages, write_csv

_FEW_ROWS = 1_000


class Cost(NamedTuple):
    """CPU seconds of the command's own processes and of those on nodes, and seconds."""

    driver: float
    nodes: float
    seconds: float

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes."""
        return self.driver + self.nodes


@dataclass(frozen=True)
class Plan:
    """CPU seconds per row, and to start the driver and each node's scoring process."""

    per_row: float
    driver_start: float
    node_start: float

    def cpu_seconds(self, n_rows: int, nodes: int) -> float:
        """Return the CPU seconds of all processes."""
        return n_rows * self.per_row + self.driver_start + nodes * self.node_start

    def seconds(self, n_rows: int, nodes: int) -> float:
        """Return the time it takes if all cores are idle."""
        cores = min(nodes, len(os.sched_getaffinity(0)))
        return n_rows * self.per_row / cores + self.driver_start + self.node_start


def main() -> None:
    """Print one line per cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(write_csv(messages(5_000), folder / "train.csv"), folder / "m")
        path = write_rows(folder / "in.csv", options.rows)
        plan = _measured_plan(folder, path, options.rows)
        starts = f"{plan.driver_start:.1f} to start the driver, {plan.node_start:.1f} per node"
        print(f"{1 / plan.per_row:,.0f} rows per CPU second; CPU seconds: {starts}", flush=True)
        for nodes in options.nodes:
            with _cluster(nodes) as cluster:
                found = _score(folder, path, cluster)
            cpu, seconds = plan.cpu_seconds(options.rows, nodes), plan.seconds(options.rows, nodes)
            print(
                f"{nodes} nodes: {cpu:.1f} CPU seconds predicted, {found.cpu:.1f} measured "
                f"({found.cpu / cpu:.2f}x); {seconds:.1f} s predicted on idle cores, {found.seconds:.1f} s "
                f"measured at load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def _measured_plan(folder: Path, path: Path, n_rows: int) -> Plan:
    few = write_rows(folder / "few.csv", _FEW_ROWS)
    little, much = (min(_score(folder, one).cpu for _ in range(3)) for one in (few, path))
    with _cluster(1) as cluster:
        start = _score(folder, few, cluster)
    return Plan((much - little) / (n_rows - _FEW_ROWS), start.driver, start.nodes)


class _Nodes(NamedTuple):
    """A cluster's address, and the processes that start scoring processes."""

    address: str
    raylets: Sequence[int]


def _score(folder: Path, path: Path, cluster: _Nodes | None = None) -> Cost:
    where = ["--engine", "ray", "--ray-address", cluster.address] if cluster else ["--workers", "1"]
    raylets = cluster.raylets if cluster else ()
    output = folder / "out.parquet"
    command = [sys.executable, "-m", "tamis", "score", str(folder / "m"), str(path), "-o", str(output)]
    began, before, ended = time.perf_counter(), _scorers(raylets), os.times()
    driver = subprocess.Popen(
        [*command, "--restart", "--part-size", "2MB", *where], stderr=subprocess.DEVNULL
    )
    seen = dict(before)
    while driver.poll() is None:  # Ray ends idle processes, whose times are lost unless they were seen before
        seen |= _scorers(raylets)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=0.1)
    if driver.returncode:
        raise SystemExit(f"tamis score ended with {driver.returncode}")
    seconds, own = time.perf_counter() - began, os.times()
    scoring = sum(cpu - before.get(pid, 0.0) for pid, cpu in seen.items())
    return Cost(sum(own[2:4]) - sum(ended[2:4]), scoring, seconds)


@contextmanager
def _cluster(nodes: int) -> Iterator[_Nodes]:
    """Start node processes of one processor each, for as long as the block takes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
        yield _Nodes(cluster.address, raylets)
    finally:
        cluster.shutdown()


def _scorers(raylets: Sequence[int]) -> dict[int, float]:
    """Return the CPU seconds of each process that one of the raylets started."""
    found = {}
    for pid in itertools.chain.from_iterable(map(children_of, raylets)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = cpu_seconds(pid)
    return found


if __name__ == "__main__":
    main()
