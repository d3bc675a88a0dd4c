"""Metrics in Prometheus's text format 0.0.4."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path

from tamis.service.telemetry.metric_types import Merge, Metric
from tamis.service.telemetry.shared_values import Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exposition(families: Iterable[Metric], snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines of all families with the totals of all processes.

    A series of a family with labels appears with its first observation.
    """
    # merged once for each kind of merge, not once for each of some thousand series
    totals = {merge: _merged(snapshots, merge) for merge in Merge}
    for family in families:
        yield from head(family.name, family.kind, family.help_text)
        values = totals[family.merge]
        for slot, label_values in family.series():
            labels = dict(zip(family.labels, label_values, strict=True))
            # route × method × status is thousands of series; those that never occurred are left out
            if family.bounds:
                *buckets, total = values[slot : slot + family.width]
                if any(buckets) or not labels:
                    yield from histogram(family.name, labels, buckets, total, family.bounds)
            elif values[slot] or not labels:
                yield sample(family.name, labels, values[slot])


def head(name: str, kind: str, help_text: str) -> Iterator[str]:
    """Yield the HELP and TYPE lines of a metric."""
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return the line of one number."""
    inside = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _merged(snapshots: Sequence[Snapshot], merge: Merge) -> list[float]:
    # a counter that lost its ended processes would fall, which Prometheus takes for a restart
    rows = [found.values for found in snapshots if found.is_alive or merge is Merge.SUM]
    return [*map(max if merge is Merge.MAX_OF_LIVING else sum, zip(*rows, strict=True))]


def histogram(
    name: str, labels: Mapping[str, str], buckets: Sequence[float], total: float, bounds: Sequence[float]
) -> Iterator[str]:
    """Yield the lines of one series; the last of the `buckets` has no bound, `total` is the sum."""
    cumulative = 0.0  # stored buckets are separate, so that an observation adds to one; the format wants sums
    for bound, number in zip([*map(_number, bounds), "+Inf"], buckets, strict=True):
        cumulative += number
        yield sample(f"{name}_bucket", {**labels, "le": bound}, cumulative)
    yield sample(f"{name}_sum", labels, total)
    yield sample(f"{name}_count", labels, cumulative)


def _number(value: float) -> str:
    value = float(value)
    if value == inf:
        return "+Inf"
    return str(int(value)) if value.is_integer() else repr(value)


PROCESS_METRICS = {
    "process_cpu_seconds_total": ("counter", "Processor time in user and kernel mode, in seconds."),
    "process_resident_memory_bytes": ("gauge", "Memory in use, shared pages included."),
    "process_virtual_memory_bytes": ("gauge", "Address space in use."),
    "process_start_time_seconds": ("gauge", "When the process started, in seconds since 1970."),
    "process_open_fds": ("gauge", "Open file descriptors."),
    "process_max_fds": ("gauge", "Maximum number of open file descriptors."),
}
"""Type and help text of each metric; the names are those of Prometheus's own client libraries."""


def process_exposition(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """Yield the lines for every living process; the label `worker` is the number of its slot."""
    # by slot and not by process id: a replacement continues its series, so their number stays bounded
    found = {
        str(worker.number): numbers
        for worker in snapshots
        if worker.is_alive and (numbers := process_numbers(worker.process))
    }
    for name, (kind, help_text) in PROCESS_METRICS.items():
        yield from head(name, kind, help_text)
        for worker, numbers in found.items():
            yield sample(name, {"worker": worker}, numbers[name])


def process_numbers(process: int) -> dict[str, float]:
    """Return the value of each metric for a process of the service; empty if it has ended."""
    folder = Path("/proc") / str(process)
    try:
        # proc(5): the second field, a name in parentheses, may contain anything; fields[0] is number 3
        fields = (folder / "stat").read_text("latin-1").rpartition(")")[2].split()
        open_files = len(os.listdir(folder / "fd"))
        limits = (folder / "limits").read_text("ascii")
        boot_time = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text("ascii"), re.MULTILINE)
    except OSError:  # it has ended since its slot was read
        return {}
    soft_limit = re.search(r"^Max open files +(\S+)", limits, re.MULTILINE)
    assert boot_time is not None and soft_limit is not None, "the kernel always writes both lines"
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "process_cpu_seconds_total": (int(fields[11]) + int(fields[12])) / ticks,
        "process_resident_memory_bytes": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        "process_virtual_memory_bytes": int(fields[20]),
        "process_start_time_seconds": int(boot_time[1]) + int(fields[19]) / ticks,
        "process_open_fds": open_files,
        "process_max_fds": float(soft_limit[1].replace("unlimited", "inf")),
    }
