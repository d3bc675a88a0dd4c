"""`tamis evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import data_argument, reading_options, training_data_option
from tamis.cli.terminal import echo

if TYPE_CHECKING:
    from pathlib import Path

    from tamis.cli.evaluation_data import EvaluationData
    from tamis.inference.classifier import Classifier
    from tamis.training.report.report_data import Measured


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--report", metavar="FILE.html", help="Write the report: curves, errors and more.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@training_data_option
@reading_options
def command(
    model: str,
    data: tuple[str, ...],
    *,
    report: str | None,
    as_json: bool,
    training_data: tuple[str, ...],
    **options: Any,
) -> None:
    """Measure MODEL on labelled files, or on the test part of a folder made by `tamis prepare`.

    If they are the very files that the model was trained on, only their test part is used. From other
    files, rows that the model was trained on are left out, if its training data can be found.
    """
    from pathlib import Path

    from tamis.artifact import REPORT_FILE, open_artifact
    from tamis.cli.evaluation_data import evaluation_data
    from tamis.cli.metric_tables import print_json, show_evaluation, show_robustness
    from tamis.cli.options import title_of
    from tamis.inference.classifier import Classifier
    from tamis.training.report.report_data import stored_metrics

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    chosen = evaluation_data([classifier], data, options, training_data=training_data)
    name = f"{classifier.name}@{classifier.version}"
    if classifier.identity in chosen.held_out:
        if report is not None and classifier.path is not None:
            Path(report).write_bytes(open_artifact(classifier.path).document(REPORT_FILE))
        echo("the model has learned these rows since: its metrics are those measured before", err=True)
        evaluation, perturbations = stored_metrics(classifier.manifest)
    else:
        measured = _measured(classifier, chosen, Path(data[0]).name)
        evaluation, perturbations = measured.evaluation, measured.perturbations
        if report is not None:
            _write_report(Path(report), classifier, measured, data)
    if as_json:
        about = {"model": model, "identity": classifier.identity, **chosen.described()}
        print_json({**about, "evaluation": evaluation, "robustness": perturbations})
    else:
        show_evaluation(evaluation, f"{name} on {chosen.title} of {title_of(data)}")
        show_robustness(perturbations, evaluation.labels)


def _measured(classifier: Classifier, chosen: EvaluationData, file: str) -> Measured:
    from tamis.cli.progress import progress_bar
    from tamis.training.report.report_data import measure

    assert classifier.manifest is not None
    rows = chosen.rows
    with progress_bar(f"scoring {len(rows):,} texts") as progress:
        probabilities = classifier.probabilities(rows.texts, progress=progress)
    return measure(
        classifier.probabilities,
        rows,
        classifier.labels,
        operating_point=classifier.manifest.operating_point,
        part=f"{chosen.title} of {file}: {len(rows):,} texts",
        probabilities=probabilities,
    )


def _write_report(file: Path, classifier: Classifier, measured: Measured, data: tuple[str, ...]) -> None:
    from tamis.cli.options import missing_extra
    from tamis.data.reader import data_name
    from tamis.training.report.report_data import ReportData

    try:
        from tamis.training.report.render import render_report
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis evaluate --report", "train", missing) from None
    assert classifier.manifest is not None
    model = f"{classifier.name}, version {classifier.version}"
    file.write_bytes(render_report(ReportData(classifier.manifest, measured, data_name(data), model)))
