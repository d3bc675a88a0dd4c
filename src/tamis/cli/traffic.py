"""`tamis models canary` and `tamis models shadow`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tamis.cli.terminal import echo

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


@click.command(epilog="Example: tamis models canary models/spam@4 --share 10% --abort-if 'errors>1%'")
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


@click.command(epilog="Example: tamis models shadow models/spam@4")
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
