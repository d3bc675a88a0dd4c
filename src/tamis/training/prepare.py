"""A labelled file divided into a part to train on and a part to test on.

`tamis train` divides in memory by the same code that `tamis prepare` writes to a folder with. Knows
files and parts; does not know models. `tamis.training.prepared_folder` keeps the parts on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import msgspec
import numpy as np

from tamis.artifact import DataFacts
from tamis.data.clean import drop_empty
from tamis.data.near_duplicates import near_duplicate_groups
from tamis.data.options import USUAL_OPTIONS, Columns, ReadOptions
from tamis.data.reader import Paths, ReadResult, read_dataset, require_classes
from tamis.data.split import grouped_parts, random_split
from tamis.errors import DataError
from tamis.records import Dataset, Notice, Progress, no_notice, no_progress

Split = Literal["grouped", "random"]


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """How a file is divided.

    split: `grouped` repairs the file, drops empty texts, and keeps together what shares a group: the
        file's group column, or near duplicates where no column is named. `random` takes the file as
        the csv module reads it, and divides its rows as scikit-learn's train_test_split does.
    """

    split: Split = "grouped"
    test_size: float = 0.33
    seed: int = 42
    reading: ReadOptions = USUAL_OPTIONS

    @classmethod
    def from_manifest(cls, facts: DataFacts) -> PrepareSettings:
        """Return the settings that a model was trained with."""
        columns = msgspec.convert(facts.columns, Columns)
        reading = msgspec.convert(facts.reading, ReadOptions)
        return cls(cast(Split, facts.split), facts.test_size, facts.seed, replace(reading, columns=columns))


@dataclass(frozen=True, slots=True)
class Prepared:
    """The two parts, and what they were made of; `Dataset.groups` is filled in both.

    settings:    with the columns that were read, also if they were guessed
    data_sha256: digest of the file's bytes
    assumed:     what was assumed when the file was read, one phrase each
    """

    train: Dataset
    test: Dataset
    settings: PrepareSettings
    data_sha256: str
    assumed: tuple[str, ...] = ()

    @property
    def absent_from_test(self) -> tuple[str, ...]:
        """Classes that could not be put into the test part, because all their texts are one group."""
        return tuple(sorted(set(self.train.classes) - set(self.test.classes)))


def prepare_file(
    paths: Paths,
    settings: PrepareSettings,
    *,
    progress: Progress = no_progress,
    say: Notice = no_notice,
) -> Prepared:
    """Read labelled files and divide them; raise DataError if that cannot be done.

    `say` is called with what was assumed about the files, one line at a time.
    """
    return prepare_dataset(read_for(paths, settings, say=say), settings, progress=progress)


def read_for(paths: Paths, settings: PrepareSettings, *, say: Notice = no_notice) -> ReadResult:
    """Read labelled files, repaired unless the split wants them as they are."""
    reading = read_dataset(paths, settings.reading, repair=settings.split == "grouped")
    for line in reading.lines:
        say(line)
    name = ", ".join(map(str, reading.paths))
    require_classes(reading.dataset, name, column=reading.options.columns.label)
    return reading


def prepare_dataset(
    reading: ReadResult, settings: PrepareSettings, *, progress: Progress = no_progress
) -> Prepared:
    """Divide what was read into the two parts."""
    if not 0 < settings.test_size < 1:
        raise DataError(f"the test part must be between 0 and 1 of the rows, not {settings.test_size:g}")
    data = reading.dataset if settings.split == "random" else drop_empty(reading.dataset)
    if data.groups is None:
        groups = near_duplicate_groups(data.texts, progress=progress)
        data = replace(data, groups=[str(group) for group in groups.tolist()])
    train, test = _divide(data, settings)
    settings = replace(settings, reading=reading.options)
    return Prepared(data.select(train), data.select(test), settings, reading.sha256, reading.assumed)


def _divide(data: Dataset, settings: PrepareSettings) -> tuple[list[int], list[int]]:
    """Return the places of the training and the test examples in `data`."""
    if settings.split == "random":
        train, test = random_split(len(data), test_size=settings.test_size, seed=settings.seed)
        return train.tolist(), test.tolist()
    assert data.groups is not None
    shares = [1 - settings.test_size, settings.test_size]
    parts = grouped_parts(data.groups, data.labels, shares, settings.seed)
    return np.flatnonzero(parts == 0).tolist(), np.flatnonzero(parts == 1).tolist()
