"""Checks the capacity plan of docs/scale.md on Ray clusters of one, two and three node processes.

    python benchmarks/ray_nodes.py [--rows 200000] [--nodes 1 2 3]

Two runs of `tamis score` with one worker give the cost of a row and of a start; the plan predicts what the
clusters need, which is printed beside what they took. The nodes have a processor each and share this machine,
so CPU seconds show whether work grows with nodes; seconds only do while nodes are no more than idle cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scoring import write_rows
from tamis.training.train import train
from tests.support.samples import messages, write_csv

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Plan:
    """What a run costs: CPU seconds per row and per process that starts."""

    per_row: float
    start: float

    def cpu_seconds(self, n_rows: int, nodes: int) -> float:
        """Return the CPU seconds of a cluster with a scoring process per node, and a driver."""
        return n_rows * self.per_row + (nodes + 1) * self.start

    def seconds(self, n_rows: int, nodes: int) -> float:
        """Return the time it takes on as many cores, if they are idle."""
        cores = min(nodes, len(os.sched_getaffinity(0)))
        return n_rows * self.per_row / cores + 2 * self.start


def main() -> None:
    """Print one line per cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(write_csv(messages(5_000), folder / "train.csv"), folder / "m")
        path = write_rows(folder / "in.csv", options.rows)
        plan = _measured_plan(folder, options.rows)
        print(f"{1 / plan.per_row:,.0f} rows per CPU second, {plan.start:.1f} CPU seconds per process")
        for nodes in options.nodes:
            with _cluster(nodes) as (address, pids):
                _score(folder, write_rows(folder / "warm.csv", 20_000 * nodes), address)
                before = _cpu_of(pids)
                cpu, seconds = _score(folder, path, address)
                cpu += _cpu_of(pids) - before
            # The processes of the nodes are warm, only the driver starts.
            _print_line(nodes, plan, options.rows, cpu, seconds)


def _print_line(nodes: int, plan: Plan, n_rows: int, cpu: float, seconds: float) -> None:
    planned, idle = plan.cpu_seconds(n_rows, 0), plan.seconds(n_rows, nodes)
    print(
        f"{nodes} nodes: {planned:.1f} CPU seconds predicted, {cpu:.1f} measured ({cpu / planned:.2f}x); "
        f"{idle:.1f} s predicted on idle cores, {seconds:.1f} s measured at load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _measured_plan(folder: Path, n_rows: int) -> Plan:
    """Return the cost of a row and of a start, from a run over all rows and one over a tenth."""
    few = write_rows(folder / "few.csv", n_rows // 10)
    little, much = (min(_score(folder, path)[0] for _ in range(2)) for path in (few, folder / "in.csv"))
    per_row = (much - little) / (n_rows - n_rows // 10)
    return Plan(per_row, little - per_row * (n_rows // 10))


def _score(folder: Path, path: Path, address: str | None = None) -> tuple[float, float]:
    """Run `tamis score`; return the CPU seconds of its own processes, and seconds."""
    where = ["--workers", "1"] if address is None else ["--engine", "ray", "--ray-address", address]
    output = folder / "out.parquet"
    command = [sys.executable, "-m", "tamis", "score", str(folder / "m"), str(path), "-o", str(output)]
    began, before = time.perf_counter(), os.times()
    subprocess.run([*command, "--restart", "--part-size", "2MB", *where], check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), time.perf_counter() - began


@contextmanager
def _cluster(nodes: int) -> Iterator[tuple[str, list[int]]]:
    """Start node processes of one processor each; yield the address, and what starts scoring processes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
        yield cluster.address, raylets
    finally:
        cluster.shutdown()


def _cpu_of(pids: list[int]) -> float:
    """Return the CPU seconds of the scoring processes below some processes, ended ones included."""
    total = 0.0
    for pid in pids:
        total += sum(_times(pid)[2:4])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        total += sum(sum(_times(int(child))) for child in children)
    return total / _TICKS


def _times(pid: int) -> list[int]:
    """Return user and system time of a process, then those of its ended children."""
    try:
        return [
            int(value) for value in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        ]
    except (FileNotFoundError, ProcessLookupError):
        return [0, 0, 0, 0]


if __name__ == "__main__":
    main()
