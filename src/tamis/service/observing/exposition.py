"""Metrics in Prometheus's text format 0.0.4. Knows families and numbers; knows nothing of Tamis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

from tamis.service.observing.families import Family, Merge
from tamis.service.observing.slots import Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exposition(families: Iterable[Family], snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines of all families with the totals of all processes.

    A series of a family with labels appears with its first observation.
    """
    totals = {merge: _merged(snapshots, merge) for merge in Merge}
    for family in families:
        yield from head(family.name, family.kind, family.meaning)
        values = totals[family.merge]
        for slot, label_values in family.series():
            labels = dict(zip(family.labels, label_values, strict=True))
            if family.bounds:
                yield from _histogram(family, labels, values[slot : slot + family.width])
            elif values[slot] or not labels:
                yield sample(family.name, labels, values[slot])


def head(name: str, kind: str, meaning: str) -> Iterator[str]:
    """Yield what stands before the samples of a metric."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return the line of one number."""
    inside = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _merged(snapshots: Sequence[Snapshot], merge: Merge) -> list[float]:
    rows = [found.values for found in snapshots if found.is_alive or merge is Merge.SUM]
    return [*map(max if merge is Merge.MAX_OF_LIVING else sum, zip(*rows, strict=True))]


def _histogram(family: Family, labels: Mapping[str, str], values: Sequence[float]) -> Iterator[str]:
    *buckets, total = values
    seen = 0.0
    if labels and not any(buckets):
        return
    for bound, number in zip([*map(_number, family.bounds), "+Inf"], buckets, strict=True):
        seen += number
        yield sample(f"{family.name}_bucket", {**labels, "le": bound}, seen)
    yield sample(f"{family.name}_sum", labels, total)
    yield sample(f"{family.name}_count", labels, seen)


def _number(value: float) -> str:
    value = float(value)
    if value == inf:
        return "+Inf"
    return str(int(value)) if value.is_integer() else repr(value)
