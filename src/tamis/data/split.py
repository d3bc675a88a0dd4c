"""Splits into parts: at random as scikit-learn does it, or with groups kept whole.

Handles numbers of groups and labels; independent of texts and files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tamis.errors import DataError

Indices = npt.NDArray[np.intp]
Amounts = npt.NDArray[np.float64]


def random_split(n: int, *, test_size: float, seed: int) -> tuple[Indices, Indices]:
    """Return the indices of the training and of the test part, in random order.

    They are the rows, in the order, that scikit-learn's `train_test_split(range(n),
    test_size=test_size, random_state=seed)` gives.
    """
    # rounded up, and the test part first in the permutation, as scikit-learn does
    n_test = math.ceil(n * test_size)
    if not 0 < n_test < n:
        raise DataError(f"{n} rows cannot be split with a test part of {test_size:g}: a part would be empty")
    order = np.random.RandomState(seed).permutation(n)  # the legacy generator, for the same rows
    return order[n_test:], order[:n_test]


def grouped_parts(
    groups: Sequence[Hashable], labels: Sequence[str], shares: Sequence[float], seed: int
) -> Indices:
    """Return [n] the part of each example: groups whole, classes spread evenly, sizes close to `shares`.

    groups: [n] what each example belongs to
    labels: [n] label of each example
    shares: [parts] wanted shares, which sum to 1

    A class with at least as many groups as there are parts is in every part, unless its groups hold
    another class that would then be missing. A class with a single group is in the first part, which
    should be the one for training. Raises DataError where a part would be empty.
    """
    group_of = _numbered(groups)
    parts = _Parts(group_of, _numbered(labels), np.asarray(shares, np.float64), np.random.default_rng(seed))
    # in this order: what has no choice first, then large groups, then single texts to fill the gaps
    parts.place_single_groups()
    parts.place_larger_groups()
    parts.place_lone_examples()
    parts.fill_missing_classes()
    part_of = parts.part_of_group[group_of]
    # with few groups a part may get none, and would measure nothing
    if np.unique(part_of).size < len(shares):
        raise DataError(
            f"{parts.sizes.size} groups of texts are too few for {len(shares)} parts: add examples, "
            "ask for fewer parts, or split at random"
        )
    return part_of


def assign_folds(groups: Sequence[Hashable], labels: Sequence[str], folds: int, seed: int) -> Indices:
    """Return [n] the fold of each example, groups whole; -1 marks examples to keep in every training part.

    Whichever fold is held out, each class is among the other examples. A class of a single group is
    therefore never held out, and neither is any other class's example in that group. There may be fewer
    folds than asked for, and none at all.
    """
    group_of, class_of = _numbered(groups), _numbered(labels)
    n_groups, n_classes = int(group_of.max(initial=-1)) + 1, int(class_of.max(initial=-1)) + 1
    pairs = np.unique(group_of * n_classes + class_of)
    groups_of_class = np.bincount(pairs % max(1, n_classes), minlength=n_classes)
    is_kept = np.zeros(n_groups, np.bool_)
    # held out, such a class would be unknown to the model that is measured on it
    is_kept[group_of[groups_of_class[class_of] == 1]] = True
    free = np.flatnonzero(~is_kept[group_of])
    fold_of = np.full(group_of.size, -1)
    # a fold is at least one group
    folds = min(folds, np.unique(group_of[free]).size)
    if folds < 2:
        return fold_of
    try:
        free_labels = [labels[row] for row in free.tolist()]
        fold_of[free] = grouped_parts(group_of[free].tolist(), free_labels, [1 / folds] * folds, seed)
    except DataError:  # every class has one group outside those that are kept
        # groups in turn: no fold is empty
        fold_of[free] = np.unique(group_of[free], return_inverse=True)[1] % folds
    _keep_one_group_of_each_class(fold_of, group_of, class_of)
    return fold_of


def labels_in_one_group(groups: Sequence[Hashable], labels: Sequence[str]) -> dict[str, int]:
    """Return the labels that cannot be held out, because all their rows are one group, with their rows."""
    groups_of: dict[str, set[Hashable]] = {}
    for group, label in zip(groups, labels, strict=True):
        groups_of.setdefault(label, set()).add(group)
    counts = Counter(labels)
    return {label: counts[label] for label in sorted(groups_of) if len(groups_of[label]) == 1}


def _keep_one_group_of_each_class(fold_of: Indices, group_of: Indices, class_of: Indices) -> None:
    """Take a group out of the folds, in place, for each class that is otherwise in one fold only."""
    n_classes, sizes = int(class_of.max(initial=-1)) + 1, np.bincount(group_of)
    pairs = np.unique(np.stack([class_of, fold_of]), axis=1)
    in_one_fold = np.bincount(pairs[0], minlength=n_classes) == 1
    for label in np.flatnonzero(in_one_fold).tolist():
        own = group_of[(class_of == label) & (fold_of >= 0)]
        if own.size:
            # the smallest, so that few texts are lost to measuring
            smallest = min(np.unique(own).tolist(), key=lambda group: (sizes[group], group))
            fold_of[group_of == smallest] = -1


class _Parts:
    """Assigns groups to parts; [parts, classes] tables have the rows that each part has and should have."""

    def __init__(self, group_of: Indices, class_of: Indices, shares: Amounts, rng: np.random.Generator):
        self.rng = rng
        self.sizes = np.bincount(group_of)
        n_groups, n_classes = self.sizes.size, int(class_of.max(initial=-1)) + 1
        pairs, self.counts = np.unique(group_of * n_classes + class_of, return_counts=True)
        self.classes = pairs % max(1, n_classes)  # [pairs of group and class], beside their counts
        # pairs are sorted by group: those of group g are ends[g - 1] to ends[g]
        self.ends = np.searchsorted(pairs, (np.arange(n_groups) + 1) * n_classes)
        self.groups_of_class = np.bincount(self.classes, minlength=n_classes)
        self.wanted = shares[:, None] * np.bincount(class_of, minlength=n_classes)
        self.had = np.zeros_like(self.wanted)
        self.groups_had = np.zeros(self.wanted.shape, np.intp)
        self.part_of_group = np.full(n_groups, -1)

    def place_single_groups(self) -> None:
        """Put the group of every class that has no other into the first part."""
        for label in np.flatnonzero(self.groups_of_class == 1):
            group = int(np.searchsorted(self.ends, np.flatnonzero(self.classes == label)[0], side="right"))
            if self.part_of_group[group] < 0:
                self._put(group, 0)

    def place_larger_groups(self) -> None:
        """Put groups of two and more, the largest first, where the classes deviate least (chi-square)."""
        # shuffled before the stable sort: groups of one size come in random order
        waiting = self.rng.permutation(np.flatnonzero((self.part_of_group < 0) & (self.sizes > 1)))
        for group in waiting[np.argsort(-self.sizes[waiting], kind="stable")].tolist():
            pairs = self._pairs(group)
            label, count = self.classes[pairs], self.counts[pairs]
            # growth of (had − wanted)² / wanted, without the term that is the same for all parts
            added = count * (2 * self.had[:, label] + count) / self.wanted[:, label]
            self._put(group, int(added.sum(axis=1).argmin()))

    def place_lone_examples(self) -> None:
        """Assign the groups of one example, class by class, until each part has its share."""
        waiting = np.flatnonzero((self.part_of_group < 0) & (self.sizes == 1))
        label_of = self.classes[self.ends[waiting] - 1]
        owed = np.zeros(len(self.wanted))  # what rounding took from a part, given back with the next class
        for label in np.unique(label_of).tolist():
            groups = self.rng.permutation(waiting[label_of == label])
            # large groups may already have filled a part beyond its share
            room = np.maximum(self.wanted[:, label] - self.had[:, label], 0)
            quota = _scaled(room if room.any() else self.wanted[:, label], groups.size)
            dealt = _whole(_scaled(np.maximum(quota + owed, 0), groups.size))
            owed += quota - dealt
            self.part_of_group[groups] = np.repeat(np.arange(dealt.size), dealt)
            self.had[:, label] += dealt
            self.groups_had[:, label] += dealt

    def fill_missing_classes(self) -> None:
        """Move the smallest group that can be spared into each part that lacks one of its classes."""
        # a class of fewer groups than parts must be missing somewhere
        enough = self.groups_of_class >= len(self.wanted)
        for part, label in np.argwhere((self.had == 0) & enough).tolist():
            holders = np.searchsorted(self.ends, np.flatnonzero(self.classes == label), side="right")
            for group in holders[np.argsort(self.sizes[holders], kind="stable")].tolist():
                # only from a part that keeps another group of each class of this one
                if (self.groups_had[self.part_of_group[group], self.classes[self._pairs(group)]] > 1).all():
                    self._put(group, int(self.part_of_group[group]), sign=-1)
                    self._put(group, part)
                    break

    def _put(self, group: int, part: int, sign: int = 1) -> None:
        pairs = self._pairs(group)
        self.had[part, self.classes[pairs]] += sign * self.counts[pairs]
        self.groups_had[part, self.classes[pairs]] += sign
        self.part_of_group[group] = part

    def _pairs(self, group: int) -> slice:
        return slice(int(self.ends[group - 1]) if group else 0, int(self.ends[group]))


def _numbered(values: Iterable[Hashable]) -> Indices:
    """Return the number of each value, counted from 0 in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.intp)


def _scaled(amounts: Amounts, total: int) -> Amounts:
    scaled: Amounts = amounts * (total / amounts.sum())
    return scaled


def _whole(quota: Amounts) -> Indices:
    """Round `quota` to whole numbers with the same sum, which is whole: largest remainders first."""
    dealt = np.floor(quota).astype(np.intp)
    missing = round(quota.sum()) - dealt.sum()
    dealt[np.argsort(dealt - quota, kind="stable")[:missing]] += 1
    return dealt
