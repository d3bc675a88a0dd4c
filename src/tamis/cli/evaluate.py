"""`tamis evaluate`, `tamis compare` and `tamis cross-validate`: metrics on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import (
    data_argument,
    missing_extra,
    model_options,
    prepare_settings,
    rare_label_options,
    reading_options,
    seed_option,
    title_of,
    train_settings,
    training_data_option,
)
from tamis.cli.terminal import echo, make_console, print_json, progress_bar

if TYPE_CHECKING:
    from tamis.cli.evaluation_data import EvaluationData
    from tamis.inference.classifier import Classifier
    from tamis.training.compare import CommonLabels, Comparison
    from tamis.training.cross_validation import CrossValidationMetrics
    from tamis.training.report.report_data import Measured


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--report", metavar="FILE.html", help="Also write a report with curves and errors.")
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
    """Evaluate MODEL on labelled files, or on the test part of a folder of `tamis prepare`.

    Of the files that the model was trained on, only the test part is used. From other files, rows that the
    model was trained on are left out, if its training data can be found.
    """
    from tamis.artifact import REPORT_FILE, open_artifact
    from tamis.cli.evaluation_data import evaluation_data
    from tamis.cli.metric_tables import show_evaluation, show_robustness
    from tamis.inference.classifier import Classifier
    from tamis.training.report.report_data import stored_metrics

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    chosen = evaluation_data([classifier], data, options, training_data=training_data)
    name = f"{classifier.name}@{classifier.version}"
    # the saved model has learned the test part; the measured one was another, which is not kept
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
    from tamis.data.reader import data_name
    from tamis.training.report.report_data import ReportData

    try:
        from tamis.training.report.render import render_report
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis evaluate --report", "train", missing) from None
    assert classifier.manifest is not None
    model = f"{classifier.name}, version {classifier.version}"
    file.write_bytes(render_report(ReportData(classifier.manifest, measured, data_name(data), model)))


# the usual level; it affects the wording only, the p-value is printed
_SIGNIFICANT = 0.05


@click.command(epilog="Example: tamis compare models/spam@1 models/spam@2 data/sms-spam.csv")
@click.argument("first", metavar="MODEL_A[@VERSION]")
@click.argument("second", metavar="MODEL_B[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@training_data_option
@reading_options
def compare(
    first: str,
    second: str,
    data: tuple[str, ...],
    *,
    as_json: bool,
    training_data: tuple[str, ...],
    **options: Any,
) -> None:
    """Compare MODEL_A and MODEL_B on the same rows, by McNemar's exact test.

    Rows that either model was trained on are skipped. Models with different labels are compared on the
    labels that both have.
    """

    comparison, chosen, labels = compare_models((first, second), data, options, training_data=training_data)
    if as_json:
        print_json(
            {"models": [first, second], "labels": labels, **chosen.described(), "comparison": comparison}
        )
    else:
        title = f"{chosen.title} of {title_of(data)}"
        show_comparison(comparison, (first, second), title, is_unseen=chosen.is_unseen)


def compare_models(
    references: tuple[str, str],
    data: tuple[str, ...],
    options: Mapping[str, Any],
    *,
    training_data: tuple[str, ...] = (),
) -> tuple[Comparison, EvaluationData, CommonLabels]:
    """Return the comparison of two models, the rows and the labels that they were compared on."""
    from tamis.cli.evaluation_data import evaluation_data
    from tamis.inference.classifier import Classifier
    from tamis.training.compare import common_labels, compare

    models = [Classifier.load(reference) for reference in references]
    labels = common_labels(models[0].labels, models[1].labels)
    chosen = evaluation_data(models, data, options, training_data=training_data)
    # a model cannot be right about a label that it does not have
    if labels.only_first or labels.only_second:
        chosen = chosen.of_labels(labels.common)
        echo(labels.described(), err=True)
    rows = chosen.rows
    with progress_bar(f"scoring {len(rows):,} texts twice") as progress:
        # columns in the order of the common labels: both models must be compared by the same index
        one, other = (
            chosen.probabilities(model, progress)[:, [model.labels.index(label) for label in labels.common]]
            for model in models
        )
    return compare(one, other, rows.labels, labels.common), chosen, labels


def show_comparison(
    comparison: Comparison, names: tuple[str, str], title: str, *, is_unseen: bool = True
) -> None:
    """Print the rows that one model alone has right, and how probable such a difference is by chance.

    Without `is_unseen`, a model may have learned these rows, which is printed after the p-value.
    """
    from rich.text import Text

    from tamis.cli.metric_tables import cells, metric_table
    from tamis.training.compare import LEARNED_UNKNOWN

    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    table = metric_table(f"{comparison.rows:,} rows", "", "accuracy", "95 % interval", "right alone")
    table.add_row(names[0], *cells(comparison.first), f"{comparison.only_first:,}")
    table.add_row(names[1], *cells(comparison.second), f"{comparison.only_second:,}")
    table.add_row("difference (B − A)", *cells(comparison.difference), "")
    console.print(table)
    verdict = "the models differ" if comparison.p_value < _SIGNIFICANT else "not statistically significant"
    caution = "" if is_unseen else f"; {LEARNED_UNKNOWN}"
    console.print(f"McNemar's exact test: p = {comparison.p_value:.4g}, {verdict}{caution}", soft_wrap=True)


@click.command(epilog="Example: tamis cross-validate data/sms-spam.csv --folds 5 --repeats 2")
@data_argument()
@model_options
@click.option(
    "--folds", default=5, show_default=True, type=click.IntRange(2, 50), metavar="N", help="Number of folds."
)
@click.option(
    "--repeats",
    default=2,
    show_default=True,
    type=click.IntRange(1, 100),
    metavar="N",
    help="Number of repetitions, each with other folds.",
)
@seed_option
@rare_label_options
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@reading_options
def cross_validate(data: tuple[str, ...], model: str, overrides: Mapping[str, str], **options: Any) -> None:
    """Cross-validate hyper-parameters on labelled files, with grouped and with random folds.

    Grouped folds repair the file, keep near duplicates together and test on one text of each group; random
    folds take the file as it is. The operating point of a fold is chosen on its training folds.
    """
    try:
        from tamis.training.cross_validation import cross_validate_file
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis cross-validate", "train", missing) from None

    with progress_bar(f"cross-validating on {title_of(data)}") as progress:
        measured = cross_validate_file(
            data,
            train_settings(model, overrides, options),
            prepare_settings(options),
            folds=options["folds"],
            repeats=options["repeats"],
            progress=progress,
            log=progress.log,
        )
    if options["as_json"]:
        print_json(measured)
    else:
        show_cross_validation(measured, f"{model} on {title_of(data)}")


def show_cross_validation(measured: Sequence[CrossValidationMetrics], title: str) -> None:
    """Print cross-validated metrics, one column per protocol."""
    from rich.text import Text

    from tamis.cli.metric_tables import cells, metric_table

    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    table = metric_table(
        "Mean over repeats, with 95 % intervals", "metric", *(one.protocol for one in measured)
    )
    table.add_row("folds × repeats", *(f"{one.folds} × {one.repeats}" for one in measured))
    table.add_row("tested, of all texts", *(f"{one.tested:,} of {one.rows:,}" for one in measured))
    for name, field in {
        "accuracy": "accuracy",
        "Matthews correlation": "matthews",
        "macro F1": "macro_f1",
        "recall, op. point": "recall",
        "false positives": "false_positive_rate",
    }.items():
        estimates = [getattr(one, field) for one in measured]
        table.add_row(name, *("" if one is None else "{}  {}".format(*cells(one)) for one in estimates))
    table.add_row("accuracy, worst fold", *(f"{min(one.accuracies):.4f}" for one in measured))
    for setting in sorted({setting for one in measured for setting in one.chosen}):
        # each fold makes its own choice, as each training would
        counts = (f"in {one.chosen.get(setting, 0)} of {len(one.accuracies)} folds" for one in measured)
        table.add_row(f"{setting} chosen", *counts)
    console.print(table)
