"""A labelled file divided into a part to train on and a part to test on:

    files ──► rows ──► empty texts and rare labels ──► near-duplicate clusters ──► two parts, groups whole

`tamis train` divides in memory by the same code that `tamis prepare` writes to a folder with
(`tamis.training.prepared_folder`). Independent of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import msgspec
import numpy as np

from tamis.artifact import DataFacts
from tamis.data.dataset_builder import drop_empty
from tamis.data.labels import count_labels
from tamis.data.near_duplicates import near_duplicate_groups
from tamis.data.reader import Paths, ReadResult, read_dataset, require_classes
from tamis.data.split import grouped_parts, labels_in_one_group, random_split
from tamis.data.tables import USUAL_OPTIONS, Columns, ReadOptions
from tamis.errors import DataError
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

Split = Literal["grouped", "random"]


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """How a file is divided.

    split: `grouped` repairs the file, drops empty texts, and keeps together what shares a group: the
        file's group column, or near duplicates if no column is named. `random` takes the file as
        the csv module reads it, and divides its rows as scikit-learn's train_test_split does.
    min_rows:   leave out labels with fewer rows than this
    merge_rare: the label to give those rows instead of leaving them out
    """

    split: Split = "grouped"
    test_size: float = 0.33
    seed: int = 42
    reading: ReadOptions = USUAL_OPTIONS
    min_rows: int = 1
    merge_rare: str | None = None

    @classmethod
    def from_manifest(cls, facts: DataFacts) -> PrepareSettings:
        """Return the settings that a model was trained with."""
        columns = msgspec.convert(facts.columns, Columns)
        reading = msgspec.convert(facts.reading, ReadOptions)
        return cls(
            split=cast(Split, facts.split),
            test_size=facts.test_size,
            seed=facts.seed,
            reading=replace(reading, columns=columns),
            min_rows=facts.min_rows,
            merge_rare=facts.merge_rare,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """The two parts, and what they were made of; `Dataset.groups` is filled in both.

    settings:    with the columns that were read, also if they were guessed
    data_sha256: digest of the file's bytes
    assumed:     what was assumed when the file was read, one phrase each
    reading:     what was read, None if the parts were read from a prepared folder
    """

    train: Dataset
    test: Dataset
    settings: PrepareSettings
    data_sha256: str
    assumed: tuple[str, ...] = ()
    reading: ReadResult | None = None

    @property
    def unmeasured(self) -> dict[str, int]:
        """Labels without a row in the test part, with their rows: too rare, or all of one group."""
        counts = Counter(self.train.labels)
        return {label: counts[label] for label in sorted(counts.keys() - set(self.test.labels))}

    @property
    def joined(self) -> Dataset:
        """Return the rows of both parts, in the order of their file."""
        both = joined_rows(self.train, self.test)
        # stable, because rows that were recovered from one swallowed field share its number
        return both.select(np.argsort(both.rows, kind="stable").tolist())


def prepare_file(paths: Paths, settings: PrepareSettings, *, log: Notice = no_notice) -> Prepared:
    """Read labelled files and divide them; raise DataError if that cannot be done.

    `log` is called with what was assumed about the files, one line at a time.
    """
    return prepare_dataset(read_for(paths, settings, log=log), settings)


def read_for(paths: Paths, settings: PrepareSettings, *, log: Notice = no_notice) -> ReadResult:
    """Read labelled files, repaired unless the split is at random."""
    # published metrics are of the file as the csv module reads it, swallowed rows included
    reading = read_dataset(paths, settings.reading, repair=settings.split == "grouped")
    for line in reading.lines:
        log(line)
    name = ", ".join(map(str, reading.paths))
    require_classes(reading.dataset, name, column=reading.options.columns.label)
    return reading


def prepare_dataset(
    reading: ReadResult, settings: PrepareSettings, *, progress: Progress = no_progress
) -> Prepared:
    """Divide what was read into the two parts."""
    if not 0 < settings.test_size < 1:
        raise DataError(f"the test part must be between 0 and 1 of the rows, not {settings.test_size:g}")
    # at random every row counts, for comparison with results published for the same file
    data = reading.dataset if settings.split == "random" else drop_empty(reading.dataset)
    data = merge_rare_labels(data, settings)
    if data.groups is None:  # for the random split too: its folds and intervals keep clusters together
        groups = near_duplicate_groups(data.texts, progress=progress)
        data = replace(data, groups=[str(group) for group in groups.tolist()])
    train, test = _divide(data, settings)
    # with the columns that were found, so that the next training of this model reads the same ones
    settings = replace(settings, reading=reading.options)
    parts = data.select(train), data.select(test)
    return Prepared(*parts, settings, reading.sha256, reading.assumed, reading)


def merge_rare_labels(data: Dataset, settings: PrepareSettings) -> Dataset:
    """Leave out the rows of labels rarer than `min_rows`, or give them the label `merge_rare`."""
    counts = Counter(data.labels)
    rare = {label for label, count in counts.items() if count < settings.min_rows}
    if not rare:
        return data
    if settings.merge_rare is not None:  # an existing label may be named
        merged = settings.merge_rare
        data = replace(data, labels=[merged if label in rare else label for label in data.labels])
    else:
        data = data.select([row for row, label in enumerate(data.labels) if label not in rare])
    if len(data.classes) < 2:
        raise DataError(
            f"fewer than two labels are left with --min-rows {settings.min_rows}: the file has "
            f"{count_labels(counts)}; lower --min-rows"
        )
    return data


def joined_rows(one: Dataset, other: Dataset) -> Dataset:
    """Return the rows of `one`, then those of `other`."""

    def column(name: str) -> list[str] | None:
        first, second = getattr(one, name), getattr(other, name)
        return None if first is None or second is None else [*first, *second]

    return Dataset(
        texts=[*one.texts, *other.texts],
        labels=[*one.labels, *other.labels],
        rows=[*one.rows, *other.rows],
        sources=column("sources"),
        groups=column("groups"),
    )


def _divide(data: Dataset, settings: PrepareSettings) -> tuple[list[int], list[int]]:
    """Return the rows of the training and of the test part; the training part has every label.

    Raises DataError unless a row of some label can be held out while another teaches that label.
    """
    assert data.groups is not None
    if settings.split == "random":
        train, test = random_split(len(data), test_size=settings.test_size, seed=settings.seed)
        unit: Sequence[object] = range(len(data))
    else:
        # before the division, which would report this as too few groups
        if len(labels_in_one_group(data.groups, data.labels)) == len(data.classes):
            raise _nothing_to_measure(data)
        shares = [1 - settings.test_size, settings.test_size]
        parts = grouped_parts(data.groups, data.labels, shares, settings.seed)
        train, test = np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
        unit = data.groups
    # labels that only the test part has could never be predicted: their units are trained on instead
    learned = {data.labels[row] for row in train.tolist()}
    moved = {unit[row] for row in test.tolist() if data.labels[row] not in learned}
    kept = [row for row in test.tolist() if unit[row] not in moved]
    if not kept:
        raise _nothing_to_measure(data)
    return [*train.tolist(), *(row for row in test.tolist() if unit[row] in moved)], kept


def _nothing_to_measure(data: Dataset) -> DataError:
    labels = count_labels(dict(sorted(Counter(data.labels).items())))
    return DataError(
        "no label has two distinct texts, one to learn from and one to measure on (near duplicates count "
        f"as one): {labels}; add texts to at least one label"
    )
