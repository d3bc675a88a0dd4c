"""Options that several commands share, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from tamis.errors import MissingExtraError

if TYPE_CHECKING:
    from tamis.data.reader import Columns
    from tamis.training.learn import TrainSettings
    from tamis.training.prepare import PrepareSettings

Command = Callable[..., Any]


def column_options(command: Command) -> Command:
    """Add the options that name the columns of a CSV file."""
    for option in (
        click.option(
            "--group-column", metavar="NAME", help="Rows with the same value here stay together in a split."
        ),
        click.option(
            "--source-column", default="source", show_default=True, metavar="NAME", help="May be missing."
        ),
        click.option("--text-column", default="text", show_default=True, metavar="NAME"),
        click.option("--label-column", default="label", show_default=True, metavar="NAME"),
    ):
        command = option(command)
    return command


def split_options(command: Command) -> Command:
    """Add the options that say how rows are divided into training and test part."""
    share = click.FloatRange(0, 1, min_open=True, max_open=True)
    for option in (
        click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**32 - 1)),
        click.option(
            "--test-size", default=0.33, show_default=True, type=share, help="Share of the test part."
        ),
        click.option(
            "--split",
            default="grouped",
            show_default=True,
            type=click.Choice(["grouped", "random"]),
            help="grouped keeps near duplicates in one part; random takes the file as it is.",
        ),
    ):
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """Add the options that say what is to be trained."""
    for option in (
        click.option(
            "--max-fpr",
            default=0.005,
            show_default=True,
            type=click.FloatRange(0, 1, max_open=True),
            help="The cap on false positives at which the operating point is chosen (two classes).",
        ),
        click.option(
            "--positive",
            metavar="LABEL",
            help="The label whose false positives are capped.  [default: the rarer]",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            callback=_named_values,
            metavar="NAME=VALUE",
            help="A hyper-parameter.",
        ),
        click.option(
            "--preset", metavar="NAME", help="Named hyper-parameters of the model: workshop for lstm."
        ),
        click.option(
            "--model",
            default="linear",
            show_default=True,
            metavar="NAME",
            help="What to train: linear or lstm.",
        ),
    ):
        command = option(command)
    return command


def _named_values(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> Mapping[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not equals:
            raise click.BadParameter(f"{name!r} must be NAME=VALUE")
    return {name: value for name, _, value in pairs}


def train_settings(model: str, overrides: Mapping[str, str], options: Mapping[str, Any]) -> TrainSettings:
    """Return the settings that `model_options` and a seed gave."""
    from tamis.models import preset
    from tamis.training.learn import TrainSettings

    named = preset(model, options["preset"]) if options["preset"] else {}
    return TrainSettings(
        model=model,
        overrides={**named, **overrides},
        positive=options["positive"],
        max_false_positive_rate=options["max_fpr"],
        seed=options["seed"],
        data_licence=options.get("data_licence"),
    )


def columns(options: Mapping[str, Any]) -> Columns:
    """Return the columns that `column_options` gave."""
    from tamis.data.reader import Columns

    return Columns(
        label=options["label_column"],
        text=options["text_column"],
        source=options["source_column"],
        group=options["group_column"],
    )


def prepare_settings(options: Mapping[str, Any]) -> PrepareSettings:
    """Return the settings that `split_options` and `column_options` gave."""
    from tamis.training.prepare import PrepareSettings

    return PrepareSettings(
        split=options["split"], test_size=options["test_size"], seed=options["seed"], columns=columns(options)
    )


def missing_extra(what: str, extra: str, missing: ModuleNotFoundError) -> Exception:
    """Return the error that says what to install, unless it is our own code that is missing."""
    if missing.name is None or missing.name.split(".")[0] == "tamis":
        return missing
    return MissingExtraError(what, extra)
