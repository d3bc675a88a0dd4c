"""`tamis models`: versions, aliases, canary and shadow of a model; `tamis import-keras`: a first version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tamis.cli.options import missing_extra
from tamis.cli.parameter_types import Bound, Percent
from tamis.cli.terminal import echo, print_json


@click.group(epilog="Example: tamis models promote models/spam@3 champion")
def command() -> None:
    """List, show, export, promote or remove model versions."""


@command.command("list", epilog="Example: tamis models list models/spam")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(model: str, *, as_json: bool) -> None:
    """List the versions of MODEL with their aliases and accuracy."""
    import msgspec

    from tamis.artifact import list_versions, open_artifact

    rows: list[dict[str, Any]] = []
    for version, aliases in list_versions(Path(model)).items():
        manifest = open_artifact(f"{model}@{version}").manifest
        # an imported model has no metrics
        estimate = manifest.metrics.get("accuracy")
        value = estimate.get("value") if isinstance(estimate, dict) else None
        accuracy = value if isinstance(value, float) else None
        rows.append({"version": version, "aliases": aliases, "kind": manifest.kind, "accuracy": accuracy})
    if not rows:
        raise click.ClickException(f"{model}: no version of a model is in this folder")
    if as_json:
        echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        measured = f"accuracy {row['accuracy']:.4f}" if row["accuracy"] is not None else "not measured"
        echo(f"{row['version']}\t{row['kind']}\t{measured}\t{' '.join(row['aliases'])}".rstrip())


@command.command("show", epilog="Example: tamis models show models/spam@champion")
@click.argument("model", metavar="MODEL[@VERSION]")
def show(model: str) -> None:
    """Print the manifest and the identity of a version as JSON."""
    import msgspec

    from tamis.artifact import open_artifact

    artifact = open_artifact(model)
    about = {"name": artifact.name, "version": artifact.version, "identity": artifact.identity}
    print_json({**about, **msgspec.to_builtins(artifact.manifest)})


@command.command("report", epilog="Example: tamis models report models/spam -o report.html")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.option("-o", "--output", metavar="FILE", help="Output file.  [default: standard output]")
@click.option("--card", is_flag=True, help="Write the model card (Markdown) instead.")
def report(model: str, *, output: str | None, card: bool) -> None:
    """Write the report of a version's training as HTML."""
    from tamis.artifact import CARD_FILE, REPORT_FILE, open_artifact

    document = open_artifact(model).document(CARD_FILE if card else REPORT_FILE)
    if output is None:
        echo(document.decode())
    else:
        Path(output).write_bytes(document)


@command.command("export", epilog="Example: tamis models export models/spam -o old/")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Output folder.")
@click.option("--name", metavar="NAME", help="Prefix of the file names.  [default: the model's name]")
def export(model: str, *, output: str, name: str | None) -> None:
    """Write a network as the three files of the workshop.

    They are NAME_model.h5, NAME_tokenizer.json and NAME_metadata.json. The model must have been trained with
    --model lstm --export h5.
    """
    from tamis.artifact import open_artifact

    artifact = open_artifact(model)
    parts = ("model.h5", "tokenizer.json", "metadata.json")
    # checked before the first file is written
    if any(f"keras_{part}" not in artifact.manifest.files for part in parts):
        raise click.ClickException(f"{model}: has no Keras files; train with --model lstm --export h5")
    folder, prefix = Path(output), name or artifact.name
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        file = folder / f"{prefix}_{part}"
        file.write_bytes(artifact.read(f"keras_{part}"))
        echo(file)


@command.command("promote", epilog="Example: tamis models promote models/spam@3 champion")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("alias")
@click.option("--reason", default="", metavar="TEXT", help="Reason, recorded in the history.")
def promote(model: str, alias: str, *, reason: str) -> None:
    """Point ALIAS at a version.

    A service that runs with MODEL@ALIAS switches within a second.
    """
    from tamis.artifact import set_alias

    path = set_alias(model, alias, reason=reason)
    echo(f"{path.parent.name}@{alias} is version {path.name}")


@command.command("rollback", epilog="Example: tamis models rollback models/spam champion")
@click.argument("model", metavar="MODEL")
@click.argument("alias")
@click.option("--reason", default="", metavar="TEXT", help="Reason, recorded in the history.")
def rollback(model: str, alias: str, *, reason: str) -> None:
    """Point ALIAS at the version before the current one."""
    from tamis.artifact import rollback as roll_back

    path = roll_back(Path(model), alias, reason=reason)
    echo(f"{path.parent.name}@{alias} is version {path.name} again")


@command.command("history", epilog="Example: tamis models history models/spam")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def history(model: str, *, as_json: bool) -> None:
    """List the changes of aliases, canary and shadow.

    Each has its time, user, versions and reason.
    """
    import msgspec

    from tamis.artifact import history as read_history

    for change in read_history(Path(model)):
        if as_json:
            echo(msgspec.json.encode(change).decode())
            continue
        before = change.from_version if change.from_version is not None else "-"
        moved = f"{change.alias}: {before} -> {change.to_version}" if change.alias else f"{change.to_version}"
        echo(f"{change.time}  {change.actor}  {change.action} {moved}  {change.reason}".rstrip())


@command.command("remove", epilog="Example: tamis models remove models/spam@1")
@click.argument("model", metavar="MODEL@VERSION")
def remove(model: str) -> None:
    """Delete a version; refused while an alias points at it."""
    from tamis.artifact import remove_version

    if "@" not in model:
        raise click.UsageError("name the version to remove: MODEL@VERSION")
    path = remove_version(model)
    echo(f"removed {path.parent.name}@{path.name}")


@click.command("import-keras", epilog="Example: tamis import-keras old/ -o models/legacy")
@click.argument("folder", metavar="FOLDER")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FOLDER",
    help="Folder of the model; its next version is made there.",
)
def import_keras(folder: str, output: str) -> None:
    """Import a sequential Keras model: FOLDER has its HDF5 file, tokenizer and metadata.

    The imported model gives the same predictions, with the same padding and truncation. Nothing in the
    files is executed.
    """
    try:
        from tamis.artifact.keras_import.convert import import_keras as convert

        path = convert(folder, output, log=lambda line: echo(line, err=True))
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis import-keras", "lstm", missing) from None
    echo(path)


@command.command("canary", epilog="Example: tamis models canary models/spam@4 --share 10%")
@click.argument("model", metavar="MODEL@VERSION")
@click.option("--share", type=Percent(), metavar="PERCENT", help="Share of the callers, such as 10%.")
@click.option(
    "--abort-if",
    "bounds",
    type=Bound(),
    multiple=True,
    metavar="BOUND",
    help="Stop at a significantly higher rate: errors>1% or disagreement>5%.",
)
@click.option("--off", is_flag=True, help="Stop the canary of MODEL.")
def canary(model: str, *, share: float | None, bounds: tuple[tuple[str, float], ...], off: bool) -> None:
    """Route a share of the callers to a version.

    A running service applies it within a second.
    """
    from tamis.artifact.traffic import set_canary, stop_canary

    if off:
        stop_canary(_folder(model))
        echo(f"{Path(model).name}: no canary")
        return
    if share is None or "@" not in model:
        raise click.UsageError("name MODEL@VERSION and --share, or MODEL --off")
    limits = dict(bounds)
    path = set_canary(
        model, share, max_errors=limits.get("errors"), max_disagreement=limits.get("disagreement")
    )
    echo(f"{path.parent.name}@{path.name} answers {share:.4g} of the callers")


@command.command("shadow", epilog="Example: tamis models shadow models/spam@4")
@click.argument("model", metavar="MODEL@VERSION")
@click.option("--off", is_flag=True, help="Stop the shadow of MODEL.")
def shadow(model: str, *, off: bool) -> None:
    """Score the served texts with another version, as a shadow."""
    from tamis.artifact.traffic import set_shadow, stop_shadow

    if off:
        stop_shadow(_folder(model))
        echo(f"{Path(model).name}: no shadow")
        return
    if "@" not in model:
        raise click.UsageError("name MODEL@VERSION, or MODEL --off")
    path = set_shadow(model)
    echo(f"{path.parent.name}@{path.name} is the shadow")


def _folder(model: str) -> Path:
    folder = Path(model)
    if not folder.is_dir():
        raise click.ClickException(f"{model}: no such model")
    return folder
