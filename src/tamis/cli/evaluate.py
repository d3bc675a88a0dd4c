"""`tamis evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tamis.cli.options import column_options


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("data", metavar="DATA.csv|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@column_options
def command(model: str, data: str, *, as_json: bool, **options: Any) -> None:
    """Measure MODEL on DATA.csv, or on the test part of a folder made by `tamis prepare`.

    Where DATA.csv is the very file that the model was trained on, only its test part is used.
    """
    from tamis.cli.figures import print_json, show_evaluation, show_robustness
    from tamis.cli.progress import progress_bar
    from tamis.cli.rows import rows_unseen_by
    from tamis.inference.classifier import Classifier
    from tamis.training.evaluate import evaluate
    from tamis.training.robustness import robustness

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    point = classifier.manifest.operating_point
    part, rows = rows_unseen_by([classifier], data, options)
    with progress_bar(f"scoring {len(rows):,} texts") as progress:
        probabilities = classifier.probabilities(rows.texts, progress=progress)
    evaluation = evaluate(
        probabilities, rows.labels, classifier.labels, operating_point=point, sources=rows.sources
    )
    disguises = robustness(
        classifier.probabilities, rows.texts, rows.labels, classifier.labels, operating_point=point
    )
    if as_json:
        told = {"model": model, "identity": classifier.identity, "part": part}
        print_json({**told, "evaluation": evaluation, "robustness": disguises})
    else:
        show_evaluation(evaluation, f"{classifier.name}@{classifier.version} on {part} of {data}")
        show_robustness(disguises)
