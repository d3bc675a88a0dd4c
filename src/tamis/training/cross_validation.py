"""Two ways to cross-validate the same settings, side by side: the honest one and the usual one.

`grouped` repairs the file, keeps near duplicates (or the file's own groups) together, and tests on
one of several near duplicates. `random` takes the file as it is and deals out its rows, twins and
all, as most published metrics do. In every fold a model is trained by the very steps of `tamis
train`: calibrated, and its operating point chosen, on the training folds alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tamis.data.dataset_builder import drop_empty
from tamis.data.labels import count_labels
from tamis.data.near_duplicates import near_duplicate_groups
from tamis.data.reader import Paths
from tamis.data.split import assign_folds
from tamis.errors import DataError
from tamis.training import metrics
from tamis.training.fit import TrainSettings, fit
from tamis.training.metrics import Estimate, Floats
from tamis.training.prepare import PrepareSettings, Split, merge_rare_labels, read_for
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

_RESAMPLES = 400


@dataclass(frozen=True)
class CrossValidationMetrics:
    """What cross-validation found, the mean over its repeats.

    An interval is the spread of that mean over bootstrap resamples of the tested rows, the same
    rows in every repeat. `recall` and `false_positive_rate` are those of the operating points that
    the folds chose, None with more than two labels; `accuracies` are those of the single folds.
    `unmeasured` are labels too rare to be held out, with their rows. `chosen` are settings that folds
    chose (`phrases=true`), with the number of these folds: a training part may be too small, or too large.
    """

    protocol: Split
    folds: int
    repeats: int
    rows: int
    tested: int
    accuracy: Estimate
    matthews: Estimate | None
    macro_f1: Estimate
    recall: Estimate | None
    false_positive_rate: Estimate | None
    accuracies: tuple[float, ...]
    unmeasured: Mapping[str, int] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)


def cross_validate_file(  # noqa: PLR0913 - data, two settings, two counts, two callbacks
    paths: Paths,
    settings: TrainSettings,
    prepare: PrepareSettings,
    *,
    folds: int = 5,
    repeats: int = 2,
    progress: Progress = no_progress,
    say: Notice = no_notice,
) -> tuple[CrossValidationMetrics, ...]:
    """Cross-validate on labelled files by both protocols, the grouped one first."""
    total = 2 * folds * repeats
    measured = []
    for number, split in enumerate(_PROTOCOLS):
        say_once = say if number == 0 else no_notice
        data = read_for(paths, replace(prepare, split=split), say=say_once).dataset
        if split == "grouped":
            data = drop_empty(data)
        data = merge_rare_labels(data, prepare)
        done = number * folds * repeats
        measured.append(
            cross_validate(
                data,
                settings,
                protocol=split,
                folds=folds,
                repeats=repeats,
                progress=lambda fold, _, done=done: progress(done + fold, total),  # type: ignore[misc]
            )
        )
    return tuple(measured)


_PROTOCOLS: tuple[Split, Split] = ("grouped", "random")


def cross_validate(
    data: Dataset,
    settings: TrainSettings,
    *,
    protocol: Split,
    folds: int = 5,
    repeats: int = 2,
    progress: Progress = no_progress,
) -> CrossValidationMetrics:
    """Train and test on every fold, `repeats` times with other folds."""
    twins = [str(group) for group in near_duplicate_groups(data.texts).tolist()]
    groups = data.groups if data.groups is not None else twins
    data = replace(data, groups=groups)
    dealt = groups if protocol == "grouped" else [str(row) for row in range(len(data))]
    tested = _first_of_each(twins) if protocol == "grouped" else np.arange(len(data))
    runs, accuracies = [], []
    for repeat in range(repeats):
        fold_of = assign_folds(dealt, data.labels, folds, settings.seed + repeat)
        run = _Run.empty(len(data))
        for fold in range(folds):
            progress(repeat * folds + fold, repeats * folds)
            inside = tested[fold_of[tested] == fold]
            if inside.size:
                accuracies.append(run.fill(data, settings, fold_of != fold, inside))
        runs.append(run)
    progress(repeats * folds, repeats * folds)
    return _figures(data, runs, tested, protocol, folds, tuple(accuracies))


def _first_of_each(groups: Sequence[str]) -> npt.NDArray[np.intp]:
    first: dict[str, int] = {}
    for row, group in enumerate(groups):
        first.setdefault(group, row)
    return np.fromiter(first.values(), np.intp, len(first))


@dataclass(frozen=True)
class _Run:
    """One repeat: what the fold's model predicted for each row, and whether it flagged the row.

    predicted: [rows] -1 for rows that were never held out
    """

    predicted: npt.NDArray[np.intp]
    flagged: npt.NDArray[np.bool_]
    positive: list[str]
    chosen: Counter[str]

    @classmethod
    def empty(cls, n_rows: int) -> _Run:
        return cls(np.full(n_rows, -1), np.zeros(n_rows, np.bool_), [], Counter())

    def fill(
        self,
        data: Dataset,
        settings: TrainSettings,
        outside: npt.NDArray[np.bool_],
        inside: npt.NDArray[np.intp],
    ) -> float:
        """Train on the rows `outside`, answer about those `inside`, and return the accuracy there."""
        learned = fit(data.select(np.flatnonzero(outside).tolist()), settings)
        if learned.choice is not None:
            self.chosen.update(f"{name}={value}" for name, value in learned.choice.overrides.items())
        classes = data.classes
        probabilities = learned.probabilities([data.texts[i] for i in inside])
        self.predicted[inside] = probabilities.argmax(axis=1)
        point = learned.operating_point
        if point is not None:
            self.positive.append(point.positive)
            self.flagged[inside] = probabilities[:, classes.index(point.positive)] >= point.threshold
        true = np.array([classes.index(data.labels[i]) for i in inside], np.intp)
        return float((self.predicted[inside] == true).mean())


def _figures(
    data: Dataset,
    runs: Sequence[_Run],
    tested: npt.NDArray[np.intp],
    protocol: Split,
    folds: int,
    accuracies: tuple[float, ...],
) -> CrossValidationMetrics:
    classes = data.classes
    held_out = np.all([run.predicted[tested] >= 0 for run in runs], axis=0)
    tested = tested[held_out]
    if not tested.size:
        labels = count_labels(Counter(data.labels))
        raise DataError(f"no row can be held out: each label needs two distinct texts; there are {labels}")
    places = {label: place for place, label in enumerate(classes)}
    true = np.array([places[data.labels[i]] for i in tested.tolist()], np.intp)
    weights = np.concatenate([np.ones((1, true.size)), metrics.Resampler(true).weights(_RESAMPLES, 42)])
    margins = [metrics.Margins.of_rows(weights, true, run.predicted[tested], len(classes)) for run in runs]
    measured = {classes[place] for place in np.unique(true).tolist()}
    unmeasured = {label: n for label, n in Counter(data.labels).items() if label not in measured}
    positives = sorted({label for run in runs for label in run.positive})
    rates = None
    if len(positives) == 1:
        is_positive = true == classes.index(positives[0])
        rates = [_rates(weights, is_positive, run.flagged[tested]) for run in runs]
    return CrossValidationMetrics(
        protocol=protocol,
        folds=folds,
        repeats=len(runs),
        rows=len(data),
        tested=true.size,
        accuracy=_defined([one.hits.sum(axis=1) / one.present.sum(axis=1) for one in margins]),
        matthews=_mean([one.matthews() for one in margins]),
        macro_f1=_defined([one.macro_f1() for one in margins]),
        recall=_mean([recall for recall, _ in rates]) if rates else None,
        false_positive_rate=_mean([rate for _, rate in rates]) if rates else None,
        accuracies=accuracies,
        unmeasured=unmeasured,
        chosen=sum((run.chosen for run in runs), Counter()),
    )


def _rates(
    weights: Floats, positive: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return [resamples] recall and false-positive rate."""
    recall = (weights @ (flagged & positive)) / np.maximum(weights @ positive, 1)
    return recall, (weights @ (flagged & ~positive)) / np.maximum(weights @ ~positive, 1)


def _mean(repeats: Sequence[Floats]) -> Estimate | None:
    """Average over repeats; the first value is the metric itself, the others its resamples."""
    value, *drawn = np.mean(repeats, axis=0).tolist()
    if np.isnan(value):
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def _defined(repeats: Sequence[Floats]) -> Estimate:
    mean = _mean(repeats)
    assert mean is not None, "there is at least one row"
    return mean
