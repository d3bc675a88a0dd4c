"""Trains a model and saves it as the next version of a model folder, in this order:

    read and divide ──► lock the folder ──► search ──► fit the training part ──► refit on all rows ──►
    measure on the test part ──► export, write records, report, card ──► commit

Uses trainers through their interface only. The test part is used once, to measure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tamis.artifact import CARD_FILE, REPORT_FILE, DataFacts, Manifest, reserve_version
from tamis.data.labels import describe_unmeasured
from tamis.data.reader import Paths, data_name
from tamis.data.tables import unusual_options
from tamis.errors import TrainingError
from tamis.normalization import CANONICAL_FORM, HTML_FORM, canonical
from tamis.training.compare import write_held_out
from tamis.training.evaluation import Evaluation, bounded_metrics
from tamis.training.fit import (
    TrainSettings,
    encode_once,
    fit,
    learning_part,
    library_versions,
    refit,
    untrained,
)
from tamis.training.learning_curve import HeldOutPart
from tamis.training.lifecycle import write_records
from tamis.training.prepare import Prepared, PrepareSettings, joined_rows, prepare_file
from tamis.training.prepared_folder import prepared_folder_in, read_prepared
from tamis.training.report.diagnostics import TrainingRun, diagnose
from tamis.training.report.report_data import Measured, ReportData, measure
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress

if TYPE_CHECKING:  # a search imports what it needs
    from tamis.training.tuning import Autotune


@dataclass(frozen=True)
class Trained:
    """The result of training: its folder (None for a dry run), its manifest, and the measured metrics.

    interrupted: whether the user stopped it early and kept what had been learned until then
    summary:     what the model is made of, one part per line
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
    log: Notice = no_notice,
    full_report: bool = False,
) -> Trained:
    """Train on labelled files or a prepared folder and write the next version of the model folder `output`.

    The model is measured on the test part, which it has not learned; then, unless `settings.refit` is off,
    the saved model is fitted on all rows with the same calibration. `formats` are written beside it, for
    users of other libraries. With `output` None nothing is written. `autotune` first searches for better
    settings, on the training part. `full_report` also trains what the report compares with, whatever it
    costs. A slow model that was killed resumes after its last whole epoch if the same is trained again, to
    the same bits. `log` is called with lines worth keeping, `notice` with the state of the fit.

    Raises DataError, TrainingError or ArtifactError.
    """
    settings = settings or TrainSettings()
    _check_formats(formats, settings, autotune)
    # before the version is reserved: data that cannot be read leaves no folder behind
    if (folder := prepared_folder_in(data)) is not None:
        prepared = read_prepared(folder)
    else:
        prepared = prepare_file(data, prepare or PrepareSettings(), log=log)
    if prepared.unmeasured:
        log(describe_unmeasured(prepared.unmeasured))
    # reserved before any fit: a second training of the same model is refused before it has spent time
    with reserve_version(Path(output)) if output is not None else nullcontext() as reservation:
        settings, searched = _searched(prepared.train, settings, autotune)
        checkpoints = reservation.checkpoints(_digest(prepared, settings)) if reservation else None
        if checkpoints and checkpoints.exists():
            log(f"resuming an unfinished training of the same data and settings ({checkpoints})")
        run = _run(
            prepared,
            settings,
            may_choose=autotune is None,  # a search tries the alternative too, within its limit of size
            progress=progress,
            notice=notice,
            checkpoints=checkpoints,
        )
        for line in run.measured.notices():
            log(line)
        if autotune is not None and autotune.max_bytes is not None:
            run = _small_enough(run, autotune.max_bytes, log)
        measured = _measure(run)
        described = {**msgspec.to_builtins(settings), **searched}
        if run.measured.choice is not None:
            described["choice"] = run.measured.choice.described()
        manifest = _describe(run, described, measured)
        if reservation is None:
            return _trained(None, manifest, measured.evaluation, run)
        calibration = run.saved.calibrated.calibration
        exported = run.saved.model.export(reservation.folder, calibration)
        for form in formats:
            run.saved.model.export_as(form, reservation.folder, calibration)
        # a model that has learned the test part cannot be compared on it; the measured one's predictions can
        if run.saved is not run.measured:
            write_held_out(measured.probabilities.argmax(axis=1), reservation.folder)
        manifest = msgspec.structs.replace(manifest, model=dict(exported))
        write_records(run, manifest, measured.probabilities, reservation.folder)
        diagnostics = diagnose(run, data, full=full_report)
        report = ReportData(manifest, measured, data_name(data), diagnostics=diagnostics)
        _write_pages(report, reservation.folder, log)
        return _trained(reservation.commit(manifest), manifest, measured.evaluation, run)


def _run(
    prepared: Prepared,
    settings: TrainSettings,
    *,
    may_choose: bool,
    progress: Progress,
    notice: Notice,
    checkpoints: Path | None,
) -> TrainingRun:
    """Fit the model to measure on the training part, and the model to save on all rows.

    Texts are encoded once for both, and once more if other settings are tried. A model that the user
    stopped early is saved as it is.
    """
    model, n_train = untrained(settings), len(prepared.train)
    # the training part first, so that it is a selection of the rows that are encoded
    rows = joined_rows(prepared.train, prepared.test)
    encode = encode_once([canonical(text) for text in rows.texts])
    # the refit is a third fit of a slow model, whose first two are `total`; of a quick one it is one step
    extra = (lambda total: total // 2) if model.is_slow else (lambda total: 1)
    measured = fit(
        prepared.train,
        settings,
        encode=lambda chosen: encode(chosen).select(np.arange(n_train)),
        may_choose=may_choose,
        progress=lambda done, total: progress(done, total + extra(total) * settings.refit),
        notice=notice,
        checkpoints=checkpoints,
    )
    saved, encoded = measured, encode(measured.settings)
    train_texts = encoded.select(np.arange(n_train))
    part = learning_part(prepared.train, measured.settings, encoded=train_texts)
    if settings.refit and not measured.model.interrupted_:
        saved = refit(
            measured,
            encoded,
            rows.labels,
            progress=(lambda done, total: progress(2 * total + done, 3 * total))
            if model.is_slow
            else no_progress,
            notice=lambda text: notice(f"on all rows, {text}"),
            checkpoints=checkpoints and checkpoints / "all",
        )
    if not model.is_slow:
        progress(part.folds + 1 + settings.refit, part.folds + 1 + settings.refit)
    return TrainingRun(
        prepared,
        measured.settings,
        part,
        HeldOutPart(encoded.select(np.arange(n_train, len(rows))), prepared.test.labels),
        measured,
        saved,
        train_texts if saved is measured else encoded,
    )


def _small_enough(run: TrainingRun, max_bytes: int, log: Notice) -> TrainingRun:
    """Save the measured model if the one of all rows is larger than `max_bytes`, which the search kept to."""
    from tamis.training.tuning.evaluation import exported_size

    # more rows have more features: the search measured the size on the training part alone
    if run.saved is run.measured or exported_size(run.saved.model) <= max_bytes:
        return run
    log(f"the model fitted on all rows has more than {max_bytes:,} bytes: the measured one is saved")
    return replace(run, saved=run.measured, learned_texts=run.train.texts)


def _trained(path: Path | None, manifest: Manifest, evaluation: Evaluation, run: TrainingRun) -> Trained:
    return Trained(path, manifest, evaluation, run.saved.model.interrupted_, run.saved.model.summary())


def _check_formats(formats: Sequence[str], settings: TrainSettings, autotune: Autotune | None) -> None:
    """Refuse a format that a model cannot write, before any time is spent on training."""
    kinds: Sequence[str] = (settings.model,)
    if formats and autotune is not None:
        from tamis.training.tuning.search import kinds_to_try

        kinds = kinds_to_try(settings, autotune)
    for kind in kinds:
        known = untrained(replace(settings, model=kind)).formats
        for form in formats:
            if form not in known:
                written = f"it can be written as {', '.join(known)}" if known else "it has no other format"
                raise TrainingError(f"--export {form}: not for a model of kind {kind}; {written}")


def _digest(prepared: Prepared, settings: TrainSettings) -> str:
    """Return a digest of what decides the model: a training resumes from its own checkpoints alone."""
    # groups too: they decide the folds, and these the calibration
    parts = [[part.texts, part.labels, part.groups] for part in (prepared.train, prepared.test)]
    what = [parts, settings, library_versions(untrained(settings))]
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


def _searched(
    data: Dataset, settings: TrainSettings, autotune: Autotune | None
) -> tuple[TrainSettings, dict[str, Any]]:
    """Return the settings to train with, and the manifest's entries about the search that found them."""
    if autotune is None:
        return settings, {}
    from tamis.training.tuning.search import chosen, search

    found = search(data, settings, autotune)
    return chosen(settings, found), {"search": found.described()}


def _measure(run: TrainingRun) -> Measured:
    test, fitted = run.prepared.test, run.measured
    return measure(
        fitted.probabilities,
        test,
        fitted.model.classes_,
        operating_point=fitted.operating_point,
        part=f"the test part: {len(test):,} texts that the measured model has not learned",
        probabilities=fitted.calibrated.calibration(fitted.model.logits(run.test.texts)),
    )


def _write_pages(report: ReportData, folder: Path, log: Notice) -> None:
    try:
        from tamis.training.report.render import render_card, render_report
    except ModuleNotFoundError as missing:  # a model can be trained without the extra that has Jinja
        if missing.name not in ("jinja2", "markupsafe"):
            raise
        log(f"{REPORT_FILE} and {CARD_FILE} are not written: that needs pip install 'tamis[train]'")
        return
    (folder / REPORT_FILE).write_bytes(render_report(report))
    (folder / CARD_FILE).write_bytes(render_card(report))


def _describe(run: TrainingRun, training: dict[str, Any], measured: Measured) -> Manifest:
    prepared, saved = run.prepared, run.saved
    split, n_train, n_test = prepared.settings, len(prepared.train), len(prepared.test)
    # nothing about the time or the folder: the digest of the manifest is the identity of the model
    return Manifest(
        kind=saved.model.kind,
        text_form=HTML_FORM if split.reading.strip_html else CANONICAL_FORM,
        labels=saved.model.classes_,
        model={},  # known after the export; a dry run exports nothing
        training=training,
        calibration=saved.calibrated.described(),
        operating_point=saved.operating_point,
        data=DataFacts(
            sha256=prepared.data_sha256,
            split=split.split,
            test_size=split.test_size,
            seed=split.seed,
            columns=msgspec.to_builtins(split.reading.columns),
            reading={**unusual_options(split.reading), "assumed": list(prepared.assumed)},
            train_rows=n_train,
            test_rows=n_test,
            # sorted, so that the bytes do not depend on the order of rows
            train_classes=dict(sorted(Counter(prepared.train.labels).items())),
            learned_rows=n_train if saved is run.measured else n_train + n_test,
            unmeasured=prepared.unmeasured,
            min_rows=split.min_rows,
            merge_rare=split.merge_rare,
        ),
        metrics=bounded_metrics(measured.evaluation)
        | {"robustness": msgspec.to_builtins(measured.perturbations)},
        libraries=library_versions(saved.model),
    )
