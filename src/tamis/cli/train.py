"""`tamis train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tamis.cli.options import column_options, split_options


def _settings(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> Mapping[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not equals:
            raise click.BadParameter(f"{name!r} must be NAME=VALUE")
    return {name: value for name, _, value in pairs}


@click.command(
    epilog="Example: tamis train data/sms-spam.csv -o models/spam --set c=8",
)
@click.argument("data", metavar="DATA.csv|FOLDER")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="The model's folder; it gets its next version."
)
@click.option(
    "--model", default="linear", show_default=True, metavar="NAME", help="What to train: linear or lstm."
)
@click.option("--preset", metavar="NAME", help="Named hyper-parameters of the model: workshop for lstm.")
@click.option(
    "--set", "overrides", multiple=True, callback=_settings, metavar="NAME=VALUE", help="A hyper-parameter."
)
@click.option(
    "--positive", metavar="LABEL", help="The label whose false positives are capped.  [default: the rarer]"
)
@click.option(
    "--max-fpr",
    default=0.005,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="The cap on false positives at which the operating point is chosen (two classes).",
)
@click.option("--dry", is_flag=True, help="Train and measure, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@split_options
@column_options
def command(
    data: str, output: str, model: str, overrides: Mapping[str, str], positive: str | None, **options: Any
) -> None:
    """Train a model on DATA.csv, or on a folder made by `tamis prepare`, and save it as the next version."""
    try:
        from tamis.models import preset
        from tamis.training.learn import TrainSettings
        from tamis.training.train import train
    except ModuleNotFoundError as missing:
        from tamis.cli.options import missing_extra

        raise missing_extra("tamis train", "train", missing) from None
    from tamis.cli.figures import print_json, show_evaluation
    from tamis.cli.options import prepare_settings
    from tamis.cli.progress import progress_bar

    named = preset(model, options["preset"]) if options["preset"] else {}
    settings = TrainSettings(
        model=model,
        overrides={**named, **overrides},
        positive=positive,
        max_false_positive_rate=options["max_fpr"],
        seed=options["seed"],
    )
    with progress_bar(f"training on {data}") as progress:
        trained = train(
            data,
            None if options["dry"] else output,
            settings=settings,
            prepare=prepare_settings(options),
            progress=progress,
            notice=progress.notice,
        )
    if trained.interrupted:
        click.echo("stopped early: the best epoch so far is kept", err=True)
    where = str(trained.path) if trained.path else "nothing was saved (--dry)"
    if options["as_json"]:
        print_json({"path": str(trained.path) if trained.path else None, "evaluation": trained.evaluation})
    else:
        show_evaluation(trained.evaluation, f"{where}: {model}, test part of {data}")
