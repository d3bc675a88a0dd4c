"""`tamis evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tamis.cli.options import data_argument, reading_options, training_data_option


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--report", metavar="FILE.html", help="Write curves, mistakes and more as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
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

    from tamis.cli.evaluation_data import evaluation_data
    from tamis.cli.figures import print_json, show_evaluation, show_robustness
    from tamis.cli.progress import progress_bar
    from tamis.cli.reading import title_of
    from tamis.inference.classifier import Classifier
    from tamis.training.report.facts import Facts, measure
    from tamis.training.report.page import report_page

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    chosen = evaluation_data([classifier], data, options, training_data=training_data)
    rows = chosen.rows
    with progress_bar(f"scoring {len(rows):,} texts") as progress:
        probabilities = classifier.probabilities(rows.texts, progress=progress)
    measured = measure(
        classifier.probabilities,
        rows,
        classifier.labels,
        operating_point=classifier.manifest.operating_point,
        part=f"{chosen.title} of {Path(data[0]).name}: {len(rows):,} texts",
        probabilities=probabilities,
    )
    if report is not None:
        Path(report).write_bytes(report_page(Facts(classifier.manifest, measured)))
    if as_json:
        told = {"model": model, "identity": classifier.identity, **chosen.described()}
        print_json({**told, "evaluation": measured.evaluation, "robustness": measured.disguises})
    else:
        show_evaluation(
            measured.evaluation,
            f"{classifier.name}@{classifier.version} on {chosen.title} of {title_of(data)}",
        )
        show_robustness(measured.disguises)
