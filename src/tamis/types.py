"""The frozen records that the steps hand to one another. Independent of steps and libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` from time to time by anything that may take over two seconds."""


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


Notice = Callable[[str], None]
"""Called with one line for the user, such as the loss and the accuracy so far."""


def no_notice(text: str) -> None:
    """Ignore the line."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text; `source` is where it was collected, `group` what it is never split from."""

    text: str
    label: str
    source: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled texts as columns of equal length, in the order of the file they came from.

    `rows` are the data rows of that file, counted from 1 without the header; rows that were
    recovered from one swallowed field share its number. `sources` and `groups` are None where the
    file has no such column.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    rows: Sequence[int]
    sources: Sequence[str] | None = None
    groups: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Example:
        return Example(
            self.texts[index],
            self.labels[index],
            self.sources[index] if self.sources is not None else None,
            self.groups[index] if self.groups is not None else None,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels, sorted."""
        return tuple(sorted(set(self.labels)))

    def select(self, indices: Sequence[int]) -> Dataset:
        """Return the examples at `indices`, in that order."""
        return replace(
            self,
            texts=[self.texts[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            rows=[self.rows[i] for i in indices],
            sources=None if self.sources is None else [self.sources[i] for i in indices],
            groups=None if self.groups is None else [self.groups[i] for i in indices],
        )


class Prediction(NamedTuple):
    """A model's prediction for one text; a named tuple, because one is made for every text served.

    `scores` maps every label to its probability and sums to 1; `label` is the most probable one and
    `score` its probability. `decision` is the label at the model's operating point: for a binary
    task it may differ from `label`, because it keeps the false-positive rate under the chosen cap.
    """

    scores: Mapping[str, float]
    label: str
    score: float
    decision: str
