"""`tamis cross-validate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import data_argument, model_options, rare_label_options, reading_options

if TYPE_CHECKING:
    from tamis.training.cross_validation import CrossValidationMetrics


@click.command(epilog="Example: tamis cross-validate data/sms-spam.csv --folds 5 --repeats 2")
@data_argument()
@model_options
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2, 50))
@click.option(
    "--repeats",
    default=2,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Number of repetitions with other folds.",
)
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**32 - 1))
@rare_label_options
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@reading_options
def command(data: tuple[str, ...], model: str, overrides: Mapping[str, str], **options: Any) -> None:
    """Measure settings on labelled files by repeated cross-validation, grouped and at random.

    grouped repairs the file, keeps near duplicates together and tests on one text of each group;
    random takes the file as it is. In every fold the operating point is chosen on the training folds.
    """
    from tamis.cli.options import missing_extra, prepare_settings

    try:
        from tamis.training.cross_validation import cross_validate_file
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis cross-validate", "train", missing) from None
    from tamis.cli.metric_tables import print_json
    from tamis.cli.options import title_of, train_settings
    from tamis.cli.progress import progress_bar

    with progress_bar(f"cross-validating on {title_of(data)}") as progress:
        measured = cross_validate_file(
            data,
            train_settings(model, overrides, options),
            prepare_settings(options),
            folds=options["folds"],
            repeats=options["repeats"],
            progress=progress,
            say=progress.say,
        )
    if options["as_json"]:
        print_json(measured)
    else:
        show_cross_validation(measured, f"{model} on {title_of(data)}")


def show_cross_validation(measured: Sequence[CrossValidationMetrics], title: str) -> None:
    """Print cross-validated metrics, one column per protocol."""
    from rich.text import Text

    from tamis.cli.metric_tables import cells, metric_table
    from tamis.cli.terminal import make_console

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
    console.print(table)
