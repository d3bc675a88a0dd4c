"""Trains a model and saves it as the next version: a list of small named steps.

Knows classifiers by their seam only. The test part is looked at once, at the end, to measure.
"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from tamis.artifact import DataFacts, Manifest, reserve_version
from tamis.data.options import unusual_options
from tamis.data.reader import Paths
from tamis.errors import TrainingError
from tamis.models.base import TrainableClassifier
from tamis.records import Dataset, Notice, Progress, no_notice, no_progress
from tamis.text import CANONICAL_FORM, HTML_FORM
from tamis.training.autotune import Autotune
from tamis.training.autotune.search import chosen, kinds_to_try, search
from tamis.training.evaluate import Evaluation
from tamis.training.learn import Learned, TrainSettings, learn, untrained
from tamis.training.prepare import Prepared, PrepareSettings, prepare_file
from tamis.training.prepared_folder import prepared_folder_in, read_prepared
from tamis.training.report.background import look_behind
from tamis.training.report.card import model_card
from tamis.training.report.facts import Facts, Measured, measure
from tamis.training.report.page import report_page

REPORT_FILE = "report.html"
CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True)
class Trained:
    """What training made: where it was saved (None for a dry run), its manifest and its figures.

    `interrupted` says that the user stopped it early and kept what had been learned until then.
    `summary` says what the model is made of, one part a line.
    """

    path: Path | None
    manifest: Manifest
    evaluation: Evaluation
    interrupted: bool = False
    summary: str = ""


def train(  # noqa: PLR0913 - data in, model out, three settings, formats, three callbacks
    data: Paths,
    output: str | Path | None,
    *,
    settings: TrainSettings | None = None,
    prepare: PrepareSettings | None = None,
    autotune: Autotune | None = None,
    formats: Sequence[str] = (),
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    say: Notice = no_notice,
) -> Trained:
    """Train on labelled files or a prepared folder and write the next version of the model folder `output`.

    `formats` are written beside it, for users of other libraries. With `output` None nothing is
    written. `autotune` first searches for better settings, on the training part. A slow model that was
    killed goes on after its last whole epoch when the same is trained again, to the same bits. `say` is
    told what is worth a line of its own, `notice` how it goes. Raises DataError, TrainingError or
    ArtifactError.
    """
    settings = settings or TrainSettings()
    _check_formats(formats, settings, autotune)
    prepared = _prepared(data, prepare or PrepareSettings(), say)  # first: bad data leaves no folder
    with reserve_version(Path(output)) if output is not None else nullcontext() as reservation:
        settings, searched = _searched(prepared.train, settings, autotune)
        checkpoints = reservation.checkpoints(_digest(prepared, settings)) if reservation else None
        if checkpoints and checkpoints.exists():
            say(f"going on with a training of the same that did not come to its end ({checkpoints})")
        learned = learn(prepared.train, settings, progress=progress, notice=notice, checkpoints=checkpoints)
        measured = _measure(learned, prepared.test)
        described = {**msgspec.to_builtins(settings), **searched}
        manifest = _describe(learned, prepared, described, measured.evaluation)
        if reservation is None:
            return _trained(None, manifest, measured.evaluation, learned)
        calibration = learned.calibrated.calibration
        exported = learned.model.export(reservation.folder, calibration)
        for form in formats:
            learned.model.export_as(form, reservation.folder, calibration)
        manifest = msgspec.structs.replace(manifest, model=dict(exported))
        background = look_behind(learned, prepared, settings, data)
        _write_pages(Facts(manifest, measured, background), reservation.folder)
        return _trained(reservation.commit(manifest), manifest, measured.evaluation, learned)


def _trained(path: Path | None, manifest: Manifest, evaluation: Evaluation, learned: Learned) -> Trained:
    return Trained(path, manifest, evaluation, learned.model.interrupted_, learned.model.summary())


def _check_formats(formats: Sequence[str], settings: TrainSettings, autotune: Autotune | None) -> None:
    """Refuse a format that a model cannot write, before any time is spent on training."""
    for kind in (settings.model,) if autotune is None else kinds_to_try(settings, autotune):
        known = untrained(replace(settings, model=kind)).formats
        for form in formats:
            if form not in known:
                written = f"it can be written as {', '.join(known)}" if known else "it has no other format"
                raise TrainingError(f"--export {form}: not for a model of kind {kind}; {written}")


def _digest(prepared: Prepared, settings: TrainSettings) -> str:
    """Return a digest of all that decides what is learned: the training part, settings, libraries."""
    data = prepared.train
    what = [data.texts, data.labels, data.groups, settings, _libraries(untrained(settings))]
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


def _libraries(model: TrainableClassifier) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in model.libraries}}


def _prepared(data: Paths, prepare: PrepareSettings, say: Notice) -> Prepared:
    folder = prepared_folder_in(data)
    return read_prepared(folder) if folder is not None else prepare_file(data, prepare, say=say)


def _searched(
    data: Dataset, settings: TrainSettings, autotune: Autotune | None
) -> tuple[TrainSettings, dict[str, Any]]:
    """Return the settings to train with, and what the manifest says of the search that found them."""
    if autotune is None:
        return settings, {}
    found = search(data, settings, autotune)
    return chosen(settings, found), {"search": found.described()}


def _measure(learned: Learned, test: Dataset) -> Measured:
    return measure(
        learned.probabilities,
        test,
        learned.model.classes_,
        operating_point=learned.operating_point,
        part=f"the test part: {len(test):,} texts that the model has not learned from",
    )


def _write_pages(facts: Facts, folder: Path) -> None:
    (folder / REPORT_FILE).write_bytes(report_page(facts))
    (folder / CARD_FILE).write_bytes(model_card(facts))


def _describe(
    learned: Learned, prepared: Prepared, training: dict[str, Any], evaluation: Evaluation
) -> Manifest:
    split = prepared.settings
    return Manifest(
        kind=learned.model.kind,
        text_form=HTML_FORM if split.reading.strip_html else CANONICAL_FORM,
        labels=learned.model.classes_,
        model={},
        training=training,
        calibration=learned.calibrated.described(),
        operating_point=learned.operating_point,
        data=DataFacts(
            sha256=prepared.data_sha256,
            split=split.split,
            test_size=split.test_size,
            seed=split.seed,
            columns=msgspec.to_builtins(split.reading.columns),
            reading={**unusual_options(split.reading), "assumed": list(prepared.assumed)},
            train_rows=len(prepared.train),
            test_rows=len(prepared.test),
            train_classes=dict(sorted(Counter(prepared.train.labels).items())),
        ),
        metrics=msgspec.to_builtins(evaluation),
        libraries=_libraries(learned.model),
    )
