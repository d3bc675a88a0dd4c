"""`tamis evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tamis.cli.options import column_options


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("data", metavar="DATA.csv|FOLDER")
@click.option("--report", metavar="FILE.html", help="Write curves, mistakes and more as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@column_options
def command(model: str, data: str, *, report: str | None, as_json: bool, **options: Any) -> None:
    """Measure MODEL on DATA.csv, or on the test part of a folder made by `tamis prepare`.

    Where DATA.csv is the very file that the model was trained on, only its test part is used.
    """
    from pathlib import Path

    from tamis.cli.figures import print_json, show_evaluation, show_robustness
    from tamis.cli.progress import progress_bar
    from tamis.cli.rows import rows_unseen_by
    from tamis.inference.classifier import Classifier
    from tamis.training.report.facts import Facts, measure
    from tamis.training.report.page import report_page

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    part, rows = rows_unseen_by([classifier], data, options)
    with progress_bar(f"scoring {len(rows):,} texts") as progress:
        probabilities = classifier.probabilities(rows.texts, progress=progress)
    measured = measure(
        classifier.probabilities,
        rows,
        classifier.labels,
        operating_point=classifier.manifest.operating_point,
        part=f"{part} of {Path(data).name}: {len(rows):,} texts",
        probabilities=probabilities,
    )
    if report is not None:
        Path(report).write_bytes(report_page(Facts(classifier.manifest, measured)))
    if as_json:
        told = {"model": model, "identity": classifier.identity, "part": part}
        print_json({**told, "evaluation": measured.evaluation, "robustness": measured.disguises})
    else:
        show_evaluation(measured.evaluation, f"{classifier.name}@{classifier.version} on {part} of {data}")
        show_robustness(measured.disguises)
