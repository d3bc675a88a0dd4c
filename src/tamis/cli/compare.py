"""`tamis compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import data_argument, reading_options, training_data_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tamis.cli.evaluation_data import EvaluationData
    from tamis.training.compare import CommonLabels, Comparison

_SIGNIFICANT = 0.05


@click.command(epilog="Example: tamis compare models/spam@1 models/spam@2 data/sms-spam.csv")
@click.argument("first", metavar="MODEL_A[@VERSION]")
@click.argument("second", metavar="MODEL_B[@VERSION]")
@data_argument("DATA…|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
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

    Rows that either model was trained on are skipped. Models with different labels are compared on the
    labels that both have.
    """
    from tamis.cli.metric_tables import print_json
    from tamis.cli.options import title_of

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
    from tamis.cli.progress import progress_bar
    from tamis.cli.terminal import echo
    from tamis.inference.classifier import Classifier
    from tamis.training.compare import common_labels, compare

    models = [Classifier.load(reference) for reference in references]
    labels = common_labels(models[0].labels, models[1].labels)
    chosen = evaluation_data(models, data, options, training_data=training_data)
    if labels.only_first or labels.only_second:
        chosen = chosen.of_labels(labels.common)
        echo(labels.described(), err=True)
    rows = chosen.rows
    with progress_bar(f"scoring {len(rows):,} texts twice") as progress:
        one, other = (
            chosen.probabilities(model, progress)[:, [model.labels.index(label) for label in labels.common]]
            for model in models
        )
    return compare(one, other, rows.labels, labels.common), chosen, labels


def show_comparison(
    comparison: Comparison, names: tuple[str, str], title: str, *, is_unseen: bool = True
) -> None:
    """Print the rows that one model alone has right, and how probable such a difference is by chance.

    Without `is_unseen`, a model may have learned these rows, and the p-value says so.
    """
    from rich.text import Text

    from tamis.cli.metric_tables import cells, metric_table
    from tamis.cli.terminal import make_console
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
