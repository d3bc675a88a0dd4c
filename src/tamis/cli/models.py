"""`tamis models`: versions, aliases, canary and shadow of a model; `tamis import-keras`: a first version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tamis.cli.terminal import echo


@click.group(
    epilog="Example: tamis models promote models/spam@3 champion && tamis serve models/spam@champion"
)
def command() -> None:
    """List, show, report on, promote or remove model versions."""


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
        accuracy = _accuracy(manifest.metrics)
        rows.append({"version": version, "aliases": aliases, "kind": manifest.kind, "accuracy": accuracy})
    if not rows:
        raise click.ClickException(f"{model}: no version of a model is in this folder")
    if as_json:
        echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        measured = f"accuracy {row['accuracy']:.4f}" if row["accuracy"] is not None else "not measured"
        echo(f"{row['version']}\t{row['kind']}\t{measured}\t{' '.join(row['aliases'])}".rstrip())


def _accuracy(metrics: Mapping[str, Any]) -> float | None:
    """Return the measured accuracy; None if there is none, as in an imported model."""
    estimate = metrics.get("accuracy")
    value = estimate.get("value") if isinstance(estimate, dict) else None
    return value if isinstance(value, float) else None


@command.command("show", epilog="Example: tamis models show models/spam@champion")
@click.argument("model", metavar="MODEL[@VERSION]")
def show(model: str) -> None:
    """Print the manifest of a version as JSON, with its identity."""
    import msgspec

    from tamis.artifact import open_artifact

    artifact = open_artifact(model)
    about = {"name": artifact.name, "version": artifact.version, "identity": artifact.identity}
    shown = {**about, **msgspec.to_builtins(artifact.manifest)}
    echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


@command.command("report", epilog="Example: tamis models report models/spam -o report.html")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.option("-o", "--output", metavar="FILE", help="Output file.  [default: standard output]")
@click.option("--card", is_flag=True, help="The model card (Markdown) in place of the report (HTML).")
def report(model: str, *, output: str | None, card: bool) -> None:
    """Write the report that training made, with the model's name and version in its title."""
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
    """Write the three files of the workshop: NAME_model.h5, NAME_tokenizer.json, NAME_metadata.json.

    For an lstm trained with --export h5.
    """
    from tamis.artifact import open_artifact

    artifact = open_artifact(model)
    parts = ("model.h5", "tokenizer.json", "metadata.json")
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
@click.option("--reason", default="", metavar="TEXT", help="Recorded in the history.")
def promote(model: str, alias: str, *, reason: str) -> None:
    """Point ALIAS at a version; a running service at MODEL@ALIAS switches within a second."""
    from tamis.artifact import set_alias

    path = set_alias(model, alias, reason=reason)
    echo(f"{path.parent.name}@{alias} is version {path.name}")


@command.command("rollback", epilog="Example: tamis models rollback models/spam champion")
@click.argument("model", metavar="MODEL")
@click.argument("alias")
@click.option("--reason", default="", metavar="TEXT", help="Recorded in the history.")
def rollback(model: str, alias: str, *, reason: str) -> None:
    """Point ALIAS at the version before the current one."""
    from tamis.artifact import rollback as roll_back

    path = roll_back(Path(model), alias, reason=reason)
    echo(f"{path.parent.name}@{alias} is version {path.name} again")


@command.command("history", epilog="Example: tamis models history models/spam")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def history(model: str, *, as_json: bool) -> None:
    """List who moved which alias when, from and to which version, and why, and each canary and shadow."""
    import msgspec

    from tamis.artifact import history as read_history

    for change in read_history(Path(model)):
        if as_json:
            echo(msgspec.json.encode(change).decode())
            continue
        before = change.from_version if change.from_version is not None else "-"
        moved = f"{change.alias}: {before} -> {change.to_version}" if change.alias else f"{change.to_version}"
        echo(f"{change.time}  {change.who}  {change.action} {moved}  {change.reason}".rstrip())


@command.command("remove", epilog="Example: tamis models remove models/spam@1")
@click.argument("model", metavar="MODEL@VERSION")
def remove(model: str) -> None:
    """Delete a version; one that an alias points at is kept."""
    from tamis.artifact import remove_version

    if "@" not in model:
        raise click.UsageError("name the version to remove: MODEL@VERSION")
    path = remove_version(model)
    echo(f"removed {path.parent.name}@{path.name}")


@click.command("import-keras", epilog="Example: tamis import-keras old/ -o models/legacy")
@click.argument("folder", metavar="FOLDER")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="The model's folder; it gets its next version."
)
def import_keras(folder: str, output: str) -> None:
    """Import a Keras model of one chain of layers: FOLDER holds its HDF5 file, tokenizer and metadata.

    The imported model gives the same predictions, with the same padding and truncation. Nothing in the
    files is executed.
    """
    try:
        from tamis.artifact.keras_import.convert import import_keras as convert

        path = convert(folder, output, say=lambda line: echo(line, err=True))
    except ModuleNotFoundError as missing:
        from tamis.cli.options import missing_extra

        raise missing_extra("tamis import-keras", "lstm", missing) from None
    echo(path)


_BOUNDS = ("errors", "disagreement")


class Percent(click.ParamType[float]):
    """A share such as `10%` or `0.1`; returns a number between 0 and 1."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value))
        share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
        if share > 1:
            self.fail(f"{value!r} is not a share; write 10% or 0.1", param, ctx)
        return share


class Bound(click.ParamType[tuple[str, float]]):
    """A bound such as `errors>1%`; returns its name and the share."""

    name = "bound"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name and the share."""
        name, separator, share = str(value).partition(">")
        if not separator or name.strip() not in _BOUNDS:
            self.fail(f"{value!r} is not a bound; write errors>1% or disagreement>5%", param, ctx)
        return name.strip(), Percent().convert(share.strip(), param, ctx)


@command.command(
    "canary", epilog="Example: tamis models canary models/spam@4 --share 10% --abort-if 'errors>1%'"
)
@click.argument("model", metavar="MODEL@VERSION")
@click.option("--share", type=Percent(), metavar="PERCENT", help="The share of the callers that it answers.")
@click.option(
    "--abort-if",
    "bounds",
    type=Bound(),
    multiple=True,
    metavar="BOUND",
    help="errors>1% or disagreement>5%: stop the canary when its rate is above, at the 95% level.",
)
@click.option("--off", is_flag=True, help="Stop the canary of MODEL.")
def canary(model: str, *, share: float | None, bounds: tuple[tuple[str, float], ...], off: bool) -> None:
    """Let a version answer a share of the callers; a running service follows within a second."""
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
    """Let a version score the texts of the served one, without answering requests."""
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
