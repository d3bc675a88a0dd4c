"""Cross-validation of the same settings by two protocols, side by side.

`grouped` repairs the file, keeps near duplicates (or the file's own groups) together, and tests on
one of several near duplicates. `random` takes the file as it is and assigns its rows to folds at random,
near duplicates included, as most published metrics do. In every fold a model is trained by the very steps
of `tamis train`: calibrated, and its operating point chosen, on the training folds alone, so that no choice
can use the fold that measures it. That takes six times the fits of choosing thresholds across folds.
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
from tamis.training.metrics import Estimate, Floats, Indices
from tamis.training.prepare import PrepareSettings, Split, merge_rare_labels, read_for
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

_RESAMPLES = 400
_PROTOCOLS: tuple[Split, Split] = ("grouped", "random")


@dataclass(frozen=True)
class CrossValidationMetrics:
    """The metrics of a cross-validation, means over its repeats.

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
    log: Notice = no_notice,
) -> tuple[CrossValidationMetrics, ...]:
    """Cross-validate on labelled files by both protocols, the grouped one first."""
    total = 2 * folds * repeats
    measured = []
    for number, split in enumerate(_PROTOCOLS):
        # the second reading, which repairs nothing, would report the same assumptions once more
        first_log = log if number == 0 else no_notice
        data = read_for(paths, replace(prepare, split=split), log=first_log).dataset
        data = merge_rare_labels(drop_empty(data) if split == "grouped" else data, prepare)
        done = number * folds * repeats
        measured.append(
            cross_validate(
                data,
                settings,
                protocol=split,
                folds=folds,
                repeats=repeats,
                # `done` as a default, because the loop changes the variable before the function is called
                progress=lambda fold, _, done=done: progress(done + fold, total),  # type: ignore[misc]
            )
        )
    return tuple(measured)


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
    clusters = near_duplicate_groups(data.texts)
    # in both protocols: within a fold, training calibrates on folds that keep these together
    groups = data.groups if data.groups is not None else [*map(str, clusters.tolist())]
    data = replace(data, groups=groups)
    units: Sequence[object] = range(len(data))
    tested = np.arange(len(data))
    if protocol == "grouped":
        # of near duplicates the first alone: a message of a hundred copies would count a hundred times
        units, tested = groups, np.sort(np.unique(clusters, return_index=True)[1])
    runs, accuracies = [], []
    for repeat in range(repeats):
        fold_of = assign_folds(units, data.labels, folds, settings.seed + repeat)
        run = _Run.empty(len(data))
        for fold in range(folds):
            progress(repeat * folds + fold, repeats * folds)
            inside = tested[fold_of[tested] == fold]
            if inside.size:
                accuracies.append(run.fill(data, settings, fold_of != fold, inside))
        runs.append(run)
    progress(repeats * folds, repeats * folds)
    return _summary(data, runs, tested, protocol, folds, tuple(accuracies))


@dataclass(frozen=True)
class _Run:
    """One repeat: the label predicted for each row by the model of its fold, and whether it flagged the row.

    predicted: [rows] index of the label, -1 for rows that were never held out
    flagged:   [rows] whether the probability of the positive label reaches the fold's threshold
    positive:  the positive label of each fold that has an operating point
    chosen:    settings that folds chose, with their number
    """

    predicted: Indices
    flagged: npt.NDArray[np.bool_]
    positive: list[str]
    chosen: Counter[str]

    @classmethod
    def empty(cls, n_rows: int) -> _Run:
        return cls(np.full(n_rows, -1), np.zeros(n_rows, np.bool_), [], Counter())

    def fill(
        self, data: Dataset, settings: TrainSettings, outside: npt.NDArray[np.bool_], inside: Indices
    ) -> float:
        """Train on the rows `outside`, predict those at `inside`, and return the accuracy there."""
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
        true = metrics.class_indices([data.labels[i] for i in inside], classes)
        return float((self.predicted[inside] == true).mean())


def _summary(
    data: Dataset,
    runs: Sequence[_Run],
    tested: Indices,
    protocol: Split,
    folds: int,
    accuracies: tuple[float, ...],
) -> CrossValidationMetrics:
    classes = data.classes
    # rows that every repeat has held out: the mean over repeats is then one over the same rows
    held_out = np.all([run.predicted[tested] >= 0 for run in runs], axis=0)
    tested = tested[held_out]
    if not tested.size:
        labels = count_labels(Counter(data.labels))
        raise DataError(f"no row can be held out: each label needs two distinct texts; there are {labels}")
    true = metrics.class_indices([data.labels[i] for i in tested.tolist()], classes)
    # the metric itself comes first, as the weighting by ones
    weights = np.concatenate([np.ones((1, true.size)), metrics.Resampler(true).weights(_RESAMPLES, 42)])
    margins = [metrics.Margins.of_rows(weights, true, run.predicted[tested], len(classes)) for run in runs]
    measured = {classes[index] for index in np.unique(true).tolist()}
    unmeasured = {label: n for label, n in Counter(data.labels).items() if label not in measured}
    positives = sorted({label for run in runs for label in run.positive})
    rates = None
    if len(positives) == 1:  # with equally frequent labels folds may differ in which is the rarer one
        is_positive = true == classes.index(positives[0])
        rates = [_rates(weights, is_positive, run.flagged[tested]) for run in runs]
    return CrossValidationMetrics(
        protocol=protocol,
        folds=folds,
        repeats=len(runs),
        rows=len(data),
        tested=true.size,
        accuracy=metrics.defined(_mean([one.hits.sum(axis=1) / one.present.sum(axis=1) for one in margins])),
        matthews=_mean([one.matthews() for one in margins]),
        macro_f1=metrics.defined(_mean([one.macro_f1() for one in margins])),
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
