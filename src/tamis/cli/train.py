"""`tamis train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tamis.cli.options import autotune_options, data_argument, model_options, reading_options, split_options
from tamis.cli.terminal import echo


@click.command(
    epilog="Example: tamis train data/sms-spam.csv -o models/spam --autotune 60s",
)
@data_argument("DATA…|FOLDER")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="The model's folder; it gets its next version."
)
@model_options
@autotune_options
@click.option(
    "--export",
    "formats",
    default="",
    metavar="FORMAT,…",
    help="Also write the model for other libraries; lstm: keras (a .keras file), h5 (the three old files).",
)
@click.option("--data-licence", metavar="TEXT", help="Licence of the data, for the model card.")
@click.option("--dry", is_flag=True, help="Train and measure, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@split_options
@reading_options
def command(
    data: tuple[str, ...], output: str, model: str, overrides: Mapping[str, str], **options: Any
) -> None:
    """Train a model on labelled files, or on a folder made by `tamis prepare`; save it as the next version.

    Files: CSV, TSV, JSON lines, fastText's label lines, also gzipped; Excel and Parquet with their extras.
    """
    try:
        from tamis.training.train import train
    except ModuleNotFoundError as missing:
        from tamis.cli.options import missing_extra

        raise missing_extra("tamis train", "train", missing) from None
    from tamis.cli.figures import print_json, show_evaluation
    from tamis.cli.options import autotune_limits, prepare_settings, train_settings
    from tamis.cli.progress import progress_bar
    from tamis.cli.reading import title_of
    from tamis.cli.search_page import search_page

    with progress_bar(f"training on {title_of(data)}") as progress, search_page(progress) as watch:
        trained = train(
            data,
            None if options["dry"] else output,
            settings=train_settings(model, overrides, options),
            prepare=prepare_settings(options),
            autotune=autotune_limits(options, watch),
            formats=[form.strip() for form in options["formats"].split(",") if form.strip()],
            progress=progress,
            notice=progress.notice,
            say=progress.say,
        )
    if trained.interrupted:
        echo("stopped early: the best epoch so far is kept", err=True)
    where = str(trained.path) if trained.path else "nothing was saved (--dry)"
    if options["as_json"]:
        path, search = str(trained.path) if trained.path else None, trained.manifest.training.get("search")
        reading = trained.manifest.data.reading
        print_json({"path": path, "reading": reading, "evaluation": trained.evaluation, "search": search})
    else:
        if options["dry"] and trained.summary:
            echo(trained.summary + "\n")
        show_evaluation(
            trained.evaluation, f"{where}: {trained.manifest.kind}, test part of {title_of(data)}"
        )
