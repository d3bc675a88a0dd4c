"""`tamis import-keras`."""

from __future__ import annotations

import click

from tamis.cli.terminal import echo


@click.command("import-keras", epilog="Example: tamis import-keras old/ -o models/legacy")
@click.argument("folder", metavar="FOLDER")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="The model's folder; it gets its next version."
)
def command(folder: str, output: str) -> None:
    """Import a Keras model of one chain of layers: FOLDER holds its HDF5 file, tokenizer and metadata.

    The new model answers as the old one did, padding and truncating included. Nothing in the old
    files is executed.
    """
    try:
        from tamis.artifact.keras_import.convert import import_keras

        path = import_keras(folder, output, say=lambda line: echo(line, err=True))
    except ModuleNotFoundError as missing:
        from tamis.cli.options import missing_extra

        raise missing_extra("tamis import-keras", "lstm", missing) from None
    echo(path)
