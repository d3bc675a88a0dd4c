"""`tamis compare`."""

from __future__ import annotations

from typing import Any

import click

from tamis.cli.options import data_argument, reading_options, training_data_option
from tamis.errors import DataError


@click.command(epilog="Example: tamis compare models/spam@1 models/spam@2 data/sms-spam.csv")
@click.argument("first", metavar="MODEL_A[@VERSION]")
@click.argument("second", metavar="MODEL_B[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@training_data_option
@reading_options
def command(
    first: str,
    second: str,
    data: tuple[str, ...],
    *,
    as_json: bool,
    training_data: tuple[str, ...],
    **options: Any,
) -> None:
    """Compare MODEL_A and MODEL_B on the same rows, by McNemar's exact test.

    Rows that either model was trained on are left out, if its training data can be found.
    """
    from tamis.cli.evaluation_data import evaluation_data
    from tamis.cli.figures import print_json, show_comparison
    from tamis.cli.progress import progress_bar
    from tamis.cli.reading import title_of
    from tamis.inference.classifier import Classifier
    from tamis.training.compare import compare

    models = [Classifier.load(reference) for reference in (first, second)]
    labels = models[0].labels
    if labels != models[1].labels:
        raise DataError(
            f"the models have different labels: {', '.join(labels)} and {', '.join(models[1].labels)}"
        )
    chosen = evaluation_data(models, data, options, training_data=training_data)
    rows = chosen.rows
    with progress_bar(f"scoring {len(rows):,} texts twice") as progress:
        one, other = (chosen.probabilities(model, progress) for model in models)
    comparison = compare(one, other, rows.labels, labels)
    if as_json:
        print_json({"models": [first, second], **chosen.described(), "comparison": comparison})
    else:
        title = f"{chosen.title} of {title_of(data)}"
        show_comparison(comparison, (first, second), title, is_unseen=chosen.is_unseen)
