"""`tamis train`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from tamis.artifact import CARD_FILE, REPORT_FILE
from tamis.cli.options import (
    data_argument,
    missing_extra,
    model_options,
    prepare_settings,
    reading_options,
    split_options,
    title_of,
    train_settings,
)
from tamis.cli.terminal import echo, make_console, print_json, progress_bar
from tamis.cli.tuning import autotune_limits, autotune_options, tuning_view

if TYPE_CHECKING:
    from tamis.training.train import Trained


@click.command(epilog="Example: tamis train data/sms-spam.csv -o models/spam --autotune 60s")
@data_argument("DATA…|FOLDER")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FOLDER",
    help="Folder of the model; its next version is made there.",
)
@model_options
@autotune_options
@click.option(
    "--export",
    "formats",
    default="",
    metavar="FORMAT,…",
    help="Also export the model; lstm: keras (one file), h5 (the workshop's three).",
)
@click.option("--data-licence", metavar="TEXT", help="Licence of the data, for the model card.")
@click.option(
    "--no-refit",
    is_flag=True,
    help="Save the evaluated model in place of one trained on all rows.",
)
@click.option(
    "--report",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "full"]),
    help="full always adds the learning curve and the other split, however slow.",
)
@click.option("--dry", is_flag=True, help="Train and evaluate, but write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@split_options
@reading_options
def command(
    data: tuple[str, ...], output: str, model: str, overrides: Mapping[str, str], **options: Any
) -> None:
    """Train a model on labelled files, or on a folder of `tamis prepare`, and save it as the next version.

    Formats: CSV, TSV, JSON lines, fastText's label lines, also gzipped; Excel and Parquet with their extras.
    """
    try:
        from tamis.training.train import train
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis train", "train", missing) from None
    from tamis.cli.metric_tables import show_evaluation

    with progress_bar(f"training on {title_of(data)}") as progress, tuning_view(progress) as watch:
        trained = train(
            data,
            None if options["dry"] else output,
            settings=train_settings(model, overrides, options),
            prepare=prepare_settings(options),
            autotune=autotune_limits(options, watch),
            formats=[form.strip() for form in options["formats"].split(",") if form.strip()],
            progress=progress,
            notice=progress.notice,
            log=progress.log,
            full_report=options["report"] == "full",
        )
    if trained.interrupted:
        echo("stopped early: the best epoch so far is kept", err=True)
    if options["as_json"]:
        print_json(_document(trained))
        return
    if options["dry"] and trained.summary:
        echo(trained.summary + "\n")
    where = str(trained.path) if trained.path else "nothing was saved (--dry)"
    facts = trained.manifest.data
    show_evaluation(trained.evaluation, f"{where}: {trained.manifest.kind}, test part of {title_of(data)}")
    learned = f"The saved model has learned {facts.train_rows:,} rows"
    learned += f" and was measured on {facts.test_rows:,} others."
    if facts.has_learned_all_rows:
        learned = (
            f"The saved model has learned all {facts.learned_rows:,} rows; the metrics above are of one that "
            f"had learned {facts.train_rows:,} and was measured on the other {facts.test_rows:,}."
        )
    console = make_console()
    console.print(Text(learned))
    if trained.path is not None:
        console.print(Text("\n".join(_saved_and_next(trained.path, output)), overflow="fold"))


def _document(trained: Trained) -> dict[str, Any]:
    """Return the output of `--json`."""
    facts = trained.manifest.data
    return {
        "path": str(trained.path) if trained.path else None,
        "reading": facts.reading,
        "rows": {
            "learned": facts.learned_rows,
            "measured_model_learned": facts.train_rows,
            "measured_on": facts.test_rows,
        },
        "unmeasured": facts.unmeasured,
        "calibration_kept": trained.manifest.calibration["kept"],
        "choice": trained.manifest.training.get("choice"),
        "evaluation": trained.evaluation,
        "search": trained.manifest.training.get("search"),
    }


def _saved_and_next(path: Path, output: str) -> Iterator[str]:
    """Yield what was saved, and what to type next."""
    # as it was given: the absolute path may be long, and is no part of the next commands
    folder = path if Path(output).is_absolute() else Path(output) / path.name
    size = sum(file.stat().st_size for file in path.iterdir())
    yield f"\nSaved: {folder} ({size / 1e6:.1f} MB)"
    for name, what in (
        (REPORT_FILE, "curves, top features and errors, for a browser"),
        (CARD_FILE, "the model card"),
    ):
        if (path / name).exists():
            yield f"  {name:<14} {what}"
    # a folder with a blank must survive copying the command
    quoted = shlex.quote(output)
    yield "\nNext:"
    yield f"  tamis predict {quoted} 'a text'"
    yield f"  tamis explain {quoted} 'a text'"
    yield f"  tamis serve {quoted}"
