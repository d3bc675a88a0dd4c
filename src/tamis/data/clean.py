"""Drops rows that are certainly useless: empty texts and exact repeats. Doubtful rows stay.

Knows examples; does not know files.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamis.normalization import canonical
from tamis.types import Dataset


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The remaining rows, and how many were dropped for each reason."""

    dataset: Dataset
    empty: int
    duplicates: int


def drop_empty(dataset: Dataset) -> Dataset:
    """Return the examples whose text has a visible character."""
    return dataset.select([i for i, text in enumerate(dataset.texts) if canonical(text)])


def clean(dataset: Dataset) -> Cleaned:
    """Drop empty texts, and rows whose text and label are exactly those of an earlier row.

    The same text under another label stays: only a person can say which one is right.
    """
    filled = drop_empty(dataset)
    first: dict[tuple[str, str], int] = {}
    for i, example in enumerate(zip(filled.texts, filled.labels, strict=True)):
        first.setdefault(example, i)
    return Cleaned(
        dataset=filled.select(list(first.values())),
        empty=len(dataset) - len(filled),
        duplicates=len(filled) - len(first),
    )
