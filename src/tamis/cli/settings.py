"""`tamis settings`: what is in force, and where each value comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from tamis.cli.terminal import echo

_HIDDEN = "(hidden)"
_DEFAULT = "default"


@click.command(epilog="Example: TAMIS_PORT=8080 tamis settings --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "show_all", is_flag=True, help="Print settings that have their default, too.")
def command(as_json: bool, show_all: bool) -> None:
    """Show the settings in force here: environment over .env over defaults.

    Run it where `tamis serve` runs. Secrets are never printed. .env.sample explains each setting.
    """
    from tamis.settings import Settings
    from tamis.settings_source import EnvironmentSource, extra, variables

    dotenv = Path(".env")
    found = EnvironmentSource(Settings, os.environ, dotenv).found
    settings = Settings.from_environment(os.environ, dotenv)
    rows = []
    for name, field in Settings.model_fields.items():
        if extra(field)["instead"] and name not in found:
            continue
        value = getattr(settings, name)
        shown = _HIDDEN if extra(field)["secret"] and value else value
        source = found[name].place if name in found else _DEFAULT
        rows.append((variables(name, field)[0], shown, source))
    if as_json:
        echo(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows]))
        return
    shown_rows = [row for row in rows if show_all or row[2] != _DEFAULT]
    for name, value, source in shown_rows:
        echo(f"{name}={value if not isinstance(value, bool) else str(value).lower()}")
        if source != _DEFAULT and source != name:
            echo(f"    from {source}")
    n_default = len(rows) - len(shown_rows)
    if n_default:
        echo(f"{n_default} settings have their default; --all shows them", err=True)
