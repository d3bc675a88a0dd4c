"""Trains a model and saves it as the next version: a list of small named steps.

Knows classifiers by their seam only. The test part is looked at once, at the end, to measure.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec

from tamis.artifact import DataFacts, Manifest, OperatingPoint, reserve_version
from tamis.errors import TrainingError
from tamis.models import make_classifier
from tamis.models.base import Calibration, Logits, TrainableClassifier
from tamis.records import Dataset, Notice, Progress, no_notice, no_progress
from tamis.text import canonical
from tamis.training.calibrate import choose_operating_point, default_positive, fit_calibration
from tamis.training.crossval import held_out_logits, out_of_fold_logits
from tamis.training.evaluate import Evaluation, evaluate
from tamis.training.prepare import Prepared, PrepareSettings, prepare_file
from tamis.training.prepared_folder import read_prepared


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    model:                    a name of `tamis.models.TRAINABLE`
    overrides:                hyper-parameters by name, as text
    positive:                 the label whose false positives are capped; by default the rarer one
    max_false_positive_rate:  the cap, for two classes
    folds:                    parts of the cross-validation that calibrates; of slow models only one is tried
    """

    model: str = "linear"
    overrides: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None
    max_false_positive_rate: float = 0.005
    folds: int = 5
    seed: int = 42


@dataclass(frozen=True)
class Trained:
    """What training made: where it was saved (None for a dry run), its manifest and its figures.

    `interrupted` says that the user stopped it early and kept what had been learned until then.
    """

    path: Path | None
    manifest: Manifest
    evaluation: Evaluation
    interrupted: bool = False


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    *,
    settings: TrainSettings | None = None,
    prepare: PrepareSettings | None = None,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
) -> Trained:
    """Train on a CSV file or a prepared folder and write the next version of the model folder `output`.

    With `output` None nothing is written. Raises DataError, TrainingError or ArtifactError.
    """
    settings = settings or TrainSettings()
    with reserve_version(Path(output)) if output is not None else nullcontext() as reservation:
        prepared = _prepared(Path(data), prepare or PrepareSettings())
        learned = _learn(prepared.train, settings, progress, notice)
        evaluation = _measure(learned, prepared.test)
        manifest = _describe(learned, prepared, settings, evaluation)
        if reservation is None:
            return Trained(None, manifest, evaluation, learned.model.interrupted_)
        exported = learned.model.export(reservation.folder, learned.calibration)
        manifest = msgspec.structs.replace(manifest, model=dict(exported))
        return Trained(reservation.commit(manifest), manifest, evaluation, learned.model.interrupted_)


@dataclass(frozen=True)
class _Learned:
    model: TrainableClassifier
    calibration: Calibration
    operating_point: OperatingPoint | None


def _prepared(data: Path, prepare: PrepareSettings) -> Prepared:
    return read_prepared(data) if data.is_dir() else prepare_file(data, prepare)


def _learn(data: Dataset, settings: TrainSettings, progress: Progress, notice: Notice) -> _Learned:
    """Find out how the model does on texts it has not seen, to calibrate; then learn from the whole part."""
    texts, labels = [canonical(text) for text in data.texts], list(data.labels)
    _check_classes(data.classes, settings)
    groups = data.groups if data.groups is not None else [str(row) for row in range(len(data))]
    learn = _learn_slowly if _untrained(settings).slow else _learn_quickly
    return learn(texts, labels, groups, settings, progress, notice)


def _learn_quickly(
    texts: list[str],
    labels: list[str],
    groups: Sequence[str],
    settings: TrainSettings,
    progress: Progress,
    notice: Notice,
) -> _Learned:
    """Cross-validate over every fold."""
    logits = out_of_fold_logits(
        lambda: _untrained(settings),
        texts,
        labels,
        groups,
        folds=settings.folds,
        seed=settings.seed,
        progress=lambda done, folds: progress(done, folds + 1),
    )
    calibration = fit_calibration(logits, labels)
    point = _operating_point(calibration, logits, labels, settings, "out-of-fold answers")
    model = _untrained(settings).fit(texts, labels, notice=notice)
    progress(settings.folds + 1, settings.folds + 1)
    return _Learned(model, calibration, point)


def _learn_slowly(
    texts: list[str],
    labels: list[str],
    groups: Sequence[str],
    settings: TrainSettings,
    progress: Progress,
    notice: Notice,
) -> _Learned:
    """Calibrate on one held-out fold; a model that the user stops there is the one that is kept."""
    held = held_out_logits(
        lambda: _untrained(settings),
        texts,
        labels,
        groups,
        folds=settings.folds,
        seed=settings.seed,
        progress=lambda done, total: progress(done, 2 * total),
        notice=lambda text: notice(f"to calibrate, {text}"),
    )
    held_labels = [labels[row] for row in held.rows]
    calibration = fit_calibration(held.logits, held_labels)
    point = _operating_point(
        calibration, held.logits, held_labels, settings, "answers about one held-out fold"
    )
    model = held.interrupted or _untrained(settings).fit(
        texts, labels, progress=lambda done, total: progress(total + done, 2 * total), notice=notice
    )
    return _Learned(model, calibration, point)


def _untrained(settings: TrainSettings) -> TrainableClassifier:
    return make_classifier(settings.model, settings.overrides, seed=settings.seed)


def _check_classes(classes: tuple[str, ...], settings: TrainSettings) -> None:
    if len(classes) < 2:
        raise TrainingError(f"training needs at least two classes; the training part has {list(classes)}")
    if settings.positive is not None and settings.positive not in classes:
        raise TrainingError(f"--positive {settings.positive}: the labels are {', '.join(classes)}")


def _operating_point(
    calibration: Calibration, logits: Logits, labels: list[str], settings: TrainSettings, chosen_on: str
) -> OperatingPoint | None:
    if logits.shape[1] != 2:
        return None
    return choose_operating_point(
        calibration(logits),
        labels,
        positive=settings.positive or default_positive(labels),
        max_false_positive_rate=settings.max_false_positive_rate,
        chosen_on=f"{chosen_on} of the training part",
    )


def _measure(learned: _Learned, test: Dataset) -> Evaluation:
    logits = learned.model.logits([canonical(text) for text in test.texts])
    return evaluate(
        learned.calibration(logits),
        test.labels,
        learned.model.classes_,
        operating_point=learned.operating_point,
        sources=test.sources,
    )


def _describe(
    learned: _Learned, prepared: Prepared, settings: TrainSettings, evaluation: Evaluation
) -> Manifest:
    split = prepared.settings
    return Manifest(
        kind=learned.model.kind,
        labels=learned.model.classes_,
        model={},
        training=msgspec.to_builtins(settings),
        calibration=msgspec.to_builtins(learned.calibration),
        operating_point=learned.operating_point,
        data=DataFacts(
            sha256=prepared.data_sha256,
            split=split.split,
            test_size=split.test_size,
            seed=split.seed,
            columns=msgspec.to_builtins(split.columns),
            train_rows=len(prepared.train),
            test_rows=len(prepared.test),
            train_classes=dict(sorted(Counter(prepared.train.labels).items())),
        ),
        metrics=msgspec.to_builtins(evaluation),
        libraries={
            "python": platform.python_version(),
            **{name: version(name) for name in learned.model.libraries},
        },
    )
