"""Options that several commands share, and the settings made of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.terminal import echo
from tamis.errors import MissingExtraError

if TYPE_CHECKING:
    from tamis.data.reader import ReadResult
    from tamis.data.tables import Columns, ReadOptions
    from tamis.inference.classifier import Classifier
    from tamis.training.fit import TrainSettings
    from tamis.training.prepare import PrepareSettings

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def _named_values(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> Mapping[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not equals:
            raise click.BadParameter(f"{name!r} must be NAME=VALUE")
    return {name: value for name, _, value in pairs}


def option_group(*options: Decorator) -> Decorator:
    """Return a decorator that adds several options to a command; help lists them in this order."""

    def add(command: Command) -> Command:
        # click lists the decorator that was applied last first
        for option in reversed(options):
            command = option(command)
        return command

    return add


def data_argument(metavar: str = "DATA…") -> Decorator:
    """Return the argument that names one data file or several."""
    return click.argument("data", nargs=-1, required=True, metavar=metavar)


_text_column_option = click.option(
    "--text-column", metavar="NAME", help="Column of texts.  [default: text, or detected]"
)
_format_options = option_group(
    click.option(
        "--encoding", metavar="NAME", help="Encoding of the file, such as cp1252.  [default: detected]"
    ),
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
        help="How quotes within a text are escaped, other than by doubling.",
    ),
    click.option("--no-header", is_flag=True, help="The file has no header; columns are named 1, 2, …"),
)

# for texts without labels
text_file_options = option_group(_text_column_option, _format_options)

# for labelled files, the same in every command that reads them
reading_options = option_group(
    click.option("--label-column", metavar="NAME", help="Column of labels.  [default: label, or detected]"),
    _text_column_option,
    click.option(
        "--source-column",
        default="source",
        show_default=True,
        metavar="NAME",
        help="Column of sources, if there is one.",
    ),
    click.option(
        "--group-column", metavar="NAME", help="Rows with an equal value in this column are never split."
    ),
    _format_options,
    click.option("--skip-unlabelled", is_flag=True, help="Skip rows without a label."),
    click.option("--strip-html", is_flag=True, help="Remove HTML from texts, in serving, too."),
)

training_data_option = click.option(
    "--training-data",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Training data of the model, whose rows are skipped.  [default: found beside DATA]",
)

seed_option = click.option(
    "--seed",
    default=42,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="Seed of all random choices.",
)

rare_label_options = option_group(
    click.option(
        "--min-rows",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help="Leave out labels with fewer than N rows.",
    ),
    click.option(
        "--merge-rare", metavar="LABEL", help="Replace labels with fewer than --min-rows by this label."
    ),
)

# for the split into a training and a test part
split_options = option_group(
    click.option(
        "--split",
        default="grouped",
        show_default=True,
        type=click.Choice(["grouped", "random"]),
        help="grouped keeps near duplicates in one part; random takes rows as they are.",
    ),
    click.option(
        "--test-size",
        default=0.33,
        show_default=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="SHARE",
        help="Share of the rows in the test part.",
    ),
    seed_option,
    rare_label_options,
)

# for the model to train
model_options = option_group(
    click.option(
        "--model",
        default="linear",
        show_default=True,
        metavar="NAME",
        help="Kind of model: linear or lstm.",
    ),
    click.option("--preset", metavar="NAME", help="Named hyper-parameters; lstm: workshop."),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        callback=_named_values,
        metavar="NAME=VALUE",
        help="Set a hyper-parameter; may be repeated.",
    ),
    click.option(
        "--positive",
        metavar="LABEL",
        help="Label whose false positives --max-fpr limits.  [default: the rarer]",
    ),
    click.option(
        "--max-fpr",
        default=0.005,
        show_default=True,
        type=click.FloatRange(0, 1, max_open=True),
        metavar="RATE",
        help="Maximum false-positive rate of the operating point (two labels).",
    ),
)


def train_settings(model: str, overrides: Mapping[str, str], options: Mapping[str, Any]) -> TrainSettings:
    """Return the values of `model_options` and a seed."""
    from tamis.training.fit import TrainSettings
    from tamis.training.trainers import preset

    # --set over --preset
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
    """Return the values of `reading_options` or `text_file_options`.

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
    """Return the values of `reading_options` with those of `split_options` or of `rare_label_options`."""
    from tamis.training.prepare import PrepareSettings

    if options["merge_rare"] is not None and options["min_rows"] < 2:
        raise click.UsageError("--merge-rare needs --min-rows: labels with fewer rows are merged")
    split = {name: options[name] for name in ("split", "test_size", "seed") if name in options}
    rare = {name: options[name] for name in ("min_rows", "merge_rare")}
    return PrepareSettings(reading=read_options(options), **split, **rare)


def missing_extra(what: str, extra: str, missing: ModuleNotFoundError) -> Exception:
    """Return the error that names the extra to install, unless a module of Tamis itself is missing."""
    # a defect of the package, which needs its traceback
    if missing.name is None or missing.name.split(".")[0] == "tamis":
        return missing
    return MissingExtraError(what, extra)


def print_reading(reading: ReadResult) -> None:
    """Print what was assumed, and suspicious labels, as one line of standard error each."""
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
    """Return the data files for a title: the first, and how many follow."""
    return data[0] if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"
