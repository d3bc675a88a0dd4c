"""`tamis evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tamis.cli.options import data_argument, reading_options


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--report", metavar="FILE.html", help="Write curves, mistakes and more as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@reading_options
def command(model: str, data: tuple[str, ...], *, report: str | None, as_json: bool, **options: Any) -> None:
    """Measure MODEL on labelled files, or on the test part of a folder made by `tamis prepare`.

    If they are the very files that the model was trained on, only their test part is used.
    """
    from pathlib import Path

    from tamis.cli.figures import print_json, show_evaluation, show_robustness
    from tamis.cli.progress import progress_bar
    from tamis.cli.reading import title_of
    from tamis.cli.rows import rows_unseen_by
    from tamis.inference.classifier import Classifier
    from tamis.training.report.facts import Facts, measure
    from tamis.training.report.page import report_page

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    part, rows, reading = rows_unseen_by([classifier], data, options)
    with progress_bar(f"scoring {len(rows):,} texts") as progress:
        probabilities = classifier.probabilities(rows.texts, progress=progress)
    measured = measure(
        classifier.probabilities,
        rows,
        classifier.labels,
        operating_point=classifier.manifest.operating_point,
        part=f"{part} of {Path(data[0]).name}: {len(rows):,} texts",
        probabilities=probabilities,
    )
    if report is not None:
        Path(report).write_bytes(report_page(Facts(classifier.manifest, measured)))
    if as_json:
        told = {"model": model, "identity": classifier.identity, "part": part, "reading": reading}
        print_json({**told, "evaluation": measured.evaluation, "robustness": measured.disguises})
    else:
        show_evaluation(
            measured.evaluation, f"{classifier.name}@{classifier.version} on {part} of {title_of(data)}"
        )
        show_robustness(measured.disguises)
