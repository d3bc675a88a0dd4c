"""Whether one model is better than another on the same rows, beyond chance.

Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions",
1947, with the exact binomial distribution in place of its approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tamis.artifact import Artifact
from tamis.errors import ArtifactError, DataError
from tamis.training.evaluator import check_labels
from tamis.training.metrics import Estimate, Floats, Indices, class_indices, proportion_of_some

LEARNED_UNKNOWN = "cannot know whether these rows were learned"
"""Printed beside every metric if the rows a model was trained on are not known."""

_SEED = 42
_RESAMPLES = 1000
_MAX_SHOWN = 6

# what the measured model predicted: a saved model that has learned all rows can no longer be measured on them
HELD_OUT_FILE = "held_out.safetensors"


@dataclass(frozen=True)
class CommonLabels:
    """The labels that two models share, in the order of the first, and those that only one of them has."""

    common: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def described(self) -> str:
        """Return one line on what is compared, and what is not."""
        others = ", ".join(repr(label) for label in (*self.only_first, *self.only_second)[:_MAX_SHOWN])
        return (
            f"compared on their {len(self.common)} common labels, each model choosing among these; rows of "
            f"other labels are left out ({others})"
        )


def common_labels(first: Sequence[str], second: Sequence[str]) -> CommonLabels:
    """Return what two models' labels have in common; raises DataError if that is fewer than two."""
    common = tuple(label for label in first if label in set(second))  # the order of the first model's columns
    if len(common) < 2:
        raise DataError(f"the models share fewer than two labels: {', '.join(common) or 'none'}")
    only_first, only_second = (
        tuple(label for label in labels if label not in common) for labels in (first, second)
    )
    return CommonLabels(common, only_first, only_second)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    only_first, only_second: rows that one model has right and the other wrong
    difference: accuracy of the second less that of the first, with a bootstrap interval
    p_value:    how probable a split of those rows at least so uneven is, were the models equally good
    """

    rows: int
    first: Estimate
    second: Estimate
    only_first: int
    only_second: int
    both_wrong: int
    difference: Estimate
    p_value: float


def compare(first: Floats, second: Floats, labels: Sequence[str], classes: Sequence[str]) -> Comparison:
    """Compare two models' [rows, classes] probabilities by which rows each has right."""
    check_labels(labels, classes)
    true = class_indices(labels, classes)
    right_first, right_second = first.argmax(axis=1) == true, second.argmax(axis=1) == true
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    return Comparison(
        rows=true.size,
        first=proportion_of_some(right_first.sum(), true.size),
        second=proportion_of_some(right_second.sum(), true.size),
        only_first=only_first,
        only_second=only_second,
        both_wrong=int((~right_first & ~right_second).sum()),
        difference=_difference(right_second.astype(np.float64) - right_first),
        p_value=mcnemar(only_first, only_second),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p-value: each such row is a fair coin if the models are equally good."""
    rows, fewer = only_first + only_second, min(only_first, only_second)
    # whole numbers, because factorials and powers of two of thousands of rows overflow a float;
    # of `rows` coins, none or at most k of which fall on one side
    ways, tail = 1, 1
    for k in range(fewer):
        ways = ways * (rows - k) // (k + 1)
        tail += ways
    p_value: float = 2 * tail / 2**rows
    return min(1.0, p_value)


def _difference(per_row: Floats) -> Estimate:
    """Return the mean of what each row adds, with a bootstrap interval over the rows."""
    random = np.random.default_rng(_SEED)
    # rows have one of three values, so a resample is one draw of three counts, however many rows there are
    counts = [(per_row == value).sum() for value in (-1, 0, 1)]
    drawn = random.multinomial(per_row.size, np.divide(counts, per_row.size), _RESAMPLES)
    means = (drawn[:, 2] - drawn[:, 0]) / per_row.size
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(per_row.mean()), float(low), float(high))


def write_held_out(predicted: Indices, folder: Path) -> None:
    """Write [test rows] the predicted label of each, as its index among the model's labels."""
    (folder / HELD_OUT_FILE).write_bytes(safetensors.numpy.save({"predicted": predicted.astype(np.uint16)}))


def read_held_out(artifact: Artifact) -> Indices:
    """Return [test rows] the predicted labels, in the order of the test part of the model's split."""
    try:
        predicted = safetensors.numpy.load(artifact.read(HELD_OUT_FILE))["predicted"]
    except (safetensors.SafetensorError, KeyError) as broken:
        raise ArtifactError(f"{artifact.path}: {HELD_OUT_FILE} cannot be read ({broken})") from None
    if predicted.shape != (artifact.manifest.data.test_rows,):
        raise ArtifactError(f"{artifact.path}: {HELD_OUT_FILE} does not fit the test part")
    return predicted.astype(np.intp)
