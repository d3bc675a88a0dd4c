"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tamis.errors import MissingExtraError

if TYPE_CHECKING:
    from tamis.data.reader import Columns
    from tamis.training.autotune import Autotune
    from tamis.training.autotune.trials import Watch
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


def autotune_options(command: Command) -> Command:
    """Add the options that let settings be searched for."""
    for option in (
        click.option(
            "--max-size",
            "max_bytes",
            callback=_size,
            metavar="SIZE",
            help="Largest model that the search may choose: 500kB, 2MB.",
        ),
        click.option(
            "--autotune-trials",
            "trials",
            type=click.IntRange(min=1),
            help="End the search after so many trials: the same result on any machine.",
        ),
        click.option(
            "--autotune",
            "seconds",
            callback=_budget,
            metavar="TIME",
            help="First search for better settings, for 60s, 5m, 1h; what --model and --set give stays.",
        ),
    ):
        command = option(command)
    return command


_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9}


def _budget(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", value, re.ASCII)
    if found is None:
        raise click.BadParameter("must be a whole number and s, m or h, such as 60s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(kB|MB|GB)", value, re.ASCII | re.IGNORECASE)
    size = round(float(found[1]) * _BYTES[found[2].lower()]) if found else 0
    if not size:
        raise click.BadParameter("must be a number and kB, MB or GB, such as 500kB or 2MB")
    return size


def autotune_limits(options: Mapping[str, Any], watch: Watch) -> Autotune | None:
    """Return the limits that `autotune_options` gave; None where no search is asked for."""
    from tamis.training.autotune import Autotune

    seconds, trials, max_bytes = options["seconds"], options["trials"], options["max_bytes"]
    if seconds is None and trials is None:
        if max_bytes is not None:
            raise click.UsageError("--max-size bounds a search: give --autotune too")
        return None
    source = click.get_current_context().get_parameter_source("model")
    other_kinds = source is ParameterSource.DEFAULT and not options["preset"]
    return Autotune(seconds, trials, max_bytes, other_kinds=other_kinds, watch=watch)


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
