"""What Linux counts for a process: children, processor time, memory. For tests and benchmarks."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started; none if it has ended."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, listed.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, that of its children left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def private_mb(pid: int) -> float:
    """Return the memory that a process alone has written to."""
    return _memory_mb(pid, "Private_Dirty")


def shared_mb(pid: int) -> float:
    """Return the resident memory of a process, shared pages divided among those that share them."""
    return _memory_mb(pid, "Pss")


def family_mb(pid: int) -> float:
    """Return the resident memory of a process and its children; those that have ended have none."""
    total = 0.0
    for one in [pid, *children_of(pid)]:
        with suppress(FileNotFoundError, ProcessLookupError, IndexError):
            total += shared_mb(one)
    return total


def _memory_mb(pid: int, field: str) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split(f"\n{field}:")[1].split()[0]) / 1024
