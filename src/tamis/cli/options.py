"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.terminal import echo
from tamis.data.reader import ReadResult
from tamis.errors import MissingExtraError

if TYPE_CHECKING:
    from tamis.data.tables import Columns, ReadOptions
    from tamis.inference.classifier import Classifier
    from tamis.training.fit import TrainSettings
    from tamis.training.prepare import PrepareSettings

Command = Callable[..., Any]


_TEXT_COLUMN = click.option("--text-column", metavar="NAME", help="[default: text, or the only possible one]")
_FORMAT_OPTIONS = (
    click.option("--encoding", metavar="NAME", help="Such as cp1252 or gb18030.  [default: detected]"),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="Cell separator: a character, or tab, comma, semicolon, pipe.  [default: detected]",
    ),
    click.option(
        "--escape",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "backslash", "none"]),
        help="How quotes inside texts are escaped, besides doubling.",
    ),
    click.option("--no-header", is_flag=True, help="The first line is a row; columns are named 1, 2, …"),
)
_TEXT_FILE_OPTIONS = (_TEXT_COLUMN, *_FORMAT_OPTIONS)
_READING_OPTIONS = (
    click.option("--label-column", metavar="NAME", help="[default: label, or the only possible one]"),
    _TEXT_COLUMN,
    click.option(
        "--source-column",
        default="source",
        show_default=True,
        metavar="NAME",
        help="Source of each text; optional.",
    ),
    click.option(
        "--group-column", metavar="NAME", help="Column whose equal values stay together in a split."
    ),
    *_FORMAT_OPTIONS,
    click.option("--skip-unlabelled", is_flag=True, help="Skip rows without a label."),
    click.option("--strip-html", is_flag=True, help="Remove HTML from texts; also applied when serving."),
)


def data_argument(metavar: str = "DATA…") -> Callable[[Command], Command]:
    """Return the argument that names one data file or several."""
    return click.argument("data", nargs=-1, required=True, metavar=metavar)


def training_data_option(command: Command) -> Command:
    """Add the option that names the files a model was trained on."""
    return click.option(
        "--training-data",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Training data of the model, whose rows are skipped.  [default: searched beside DATA]",
    )(command)


def reading_options(command: Command) -> Command:
    """Add the options that say how a data file is to be read, the same for every command that reads one."""
    for option in reversed(_READING_OPTIONS):
        command = option(command)
    return command


def text_file_options(command: Command) -> Command:
    """Add those of the reading options that matter for texts without labels."""
    for option in reversed(_TEXT_FILE_OPTIONS):
        command = option(command)
    return command


def rare_label_options(command: Command) -> Command:
    """Add the options for labels that have few rows."""
    for option in (
        click.option(
            "--merge-rare", metavar="LABEL", help="Give rows of labels below --min-rows this label instead."
        ),
        click.option(
            "--min-rows",
            default=1,
            show_default=True,
            type=click.IntRange(1),
            help="Leave out labels with fewer rows.",
        ),
    ):
        command = option(command)
    return command


def split_options(command: Command) -> Command:
    """Add the options that say how rows are divided into training and test part."""
    command = rare_label_options(command)
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
            help="grouped keeps near duplicates in one part; random uses the file unchanged.",
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
    from tamis.training.fit import TrainSettings
    from tamis.training.trainers import preset

    named = preset(model, options["preset"]) if options["preset"] else {}
    return TrainSettings(
        model=model,
        overrides={**named, **overrides},
        positive=options["positive"],
        max_false_positive_rate=options["max_fpr"],
        seed=options["seed"],
        refit=not options.get("no_refit"),
        data_licence=options.get("data_licence"),
    )


def read_options(options: Mapping[str, Any], *, remembered: Columns | None = None) -> ReadOptions:
    """Return what `reading_options` or `text_file_options` gave.

    `remembered` are the columns that a model was trained with.
    """
    from tamis.data.tables import Columns, ReadOptions

    return ReadOptions(
        columns=Columns(
            label=options.get("label_column"),
            text=options["text_column"],
            source=options.get("source_column"),
            group=options.get("group_column"),
        ),
        remembered=remembered,
        encoding=options["encoding"],
        delimiter=options["delimiter"],
        escape=options["escape"],
        has_header=not options["no_header"],
        skip_unlabelled=options.get("skip_unlabelled", False),
        strip_html=options.get("strip_html", False),
    )


def columns_of(classifier: Classifier) -> Columns | None:
    """Return the columns that a model was trained with, None if it was not trained from a file."""
    import msgspec

    from tamis.data.tables import Columns

    if classifier.manifest is None:
        return None
    return msgspec.convert(classifier.manifest.data.columns, Columns)


def prepare_settings(options: Mapping[str, Any]) -> PrepareSettings:
    """Return the settings of `reading_options` with `split_options`, or with `rare_label_options` alone."""
    from tamis.training.prepare import PrepareSettings

    if options["merge_rare"] is not None and options["min_rows"] < 2:
        raise click.UsageError("--merge-rare needs --min-rows: labels with fewer rows are merged")
    split = {name: options[name] for name in ("split", "test_size", "seed") if name in options}
    rare = {name: options[name] for name in ("min_rows", "merge_rare")}
    return PrepareSettings(reading=read_options(options), **split, **rare)


_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9}


def size_option(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return the bytes that an option's value such as 500kB means."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(kB|MB|GB)", value, re.ASCII | re.IGNORECASE)
    size = round(float(found[1]) * _BYTES[found[2].lower()]) if found else 0
    if not size:
        raise click.BadParameter("must be a number and kB, MB or GB, such as 500kB or 2MB")
    return size


def missing_extra(what: str, extra: str, missing: ModuleNotFoundError) -> Exception:
    """Return the error that says what to install, unless it is our own code that is missing."""
    if missing.name is None or missing.name.split(".")[0] == "tamis":
        return missing
    return MissingExtraError(what, extra)


def say_reading(reading: ReadResult) -> None:
    """Print what was assumed, and what is suspicious about the labels, on one line of standard error each."""
    for line in reading.lines:
        echo(line, err=True)


def describe_reading(reading: ReadResult) -> Mapping[str, Any]:
    """Return how the files were read, for `--json`."""
    return {
        "files": [path.name for path in reading.paths],
        "rows": reading.rows_as_read,
        "encoding": reading.encoding,
        "delimiter": reading.delimiter,
        "columns": asdict(reading.options.columns),
        "unlabelled": reading.unlabelled,
        "assumed": list(reading.assumed),
        "label_problems": [str(problem) for problem in reading.label_problems],
    }


def title_of(data: tuple[str, ...]) -> str:
    """Return how data files are called in titles: the first, and how many follow."""
    return data[0] if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"
