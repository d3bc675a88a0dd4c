"""What the kernel says of a process. Knows `/proc`; where there is none, nothing is said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tamis.service.observing.exposition import head, sample
from tamis.service.observing.slots import Snapshot

PROCESS_METRICS = {
    "process_cpu_seconds_total": ("counter", "Processor time in user and kernel mode, in seconds."),
    "process_resident_memory_bytes": ("gauge", "Memory in use, shared pages included."),
    "process_virtual_memory_bytes": ("gauge", "Address space in use."),
    "process_start_time_seconds": ("gauge", "When the process started, in seconds since 1970."),
    "process_open_fds": ("gauge", "Open file descriptors."),
    "process_max_fds": ("gauge", "Most file descriptors that may be open."),
}
"""Kind and meaning of each, by the name that Prometheus's own clients give it."""


def process_exposition(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """Yield the lines for every living process; `worker` is the number of its place, which is taken again."""
    found = {
        str(worker.number): numbers
        for worker in snapshots
        if worker.is_alive and (numbers := process_numbers(worker.process))
    }
    for name, (kind, meaning) in PROCESS_METRICS.items():
        yield from head(name, kind, meaning)
        for worker, numbers in found.items():
            yield sample(name, {"worker": worker}, numbers[name])


def process_numbers(process: int) -> dict[str, float]:
    """Return the value of each metric for a process of ours; nothing if it has ended or cannot be seen."""
    folder = Path("/proc") / str(process)
    try:
        # the second field, the name in parentheses, may hold anything; the next one is number 3
        fields = (folder / "stat").read_text("latin-1").rpartition(")")[2].split()
        open_files = len(os.listdir(folder / "fd"))
        limits = (folder / "limits").read_text("ascii")
        booted = _booted_at()
    except OSError:
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "process_cpu_seconds_total": (int(fields[11]) + int(fields[12])) / ticks,
        "process_resident_memory_bytes": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        "process_virtual_memory_bytes": int(fields[20]),
        "process_start_time_seconds": booted + int(fields[19]) / ticks,
        "process_open_fds": open_files,
        "process_max_fds": _max_files(limits),
    }


def _booted_at() -> int:
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("btime ")).split()[1])


def _max_files(limits: str) -> float:
    soft = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3]
    return float(soft.replace("unlimited", "inf"))
