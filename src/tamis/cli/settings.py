"""`tamis settings` and `tamis migrate`, and the store that other commands work on.

A command's store is named by its option `--store`, otherwise by the settings of the service.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tamis.cli.terminal import echo
from tamis.clock import SystemClock
from tamis.errors import StoreError

if TYPE_CHECKING:
    from tamis.settings import Settings
    from tamis.storage import Store


store_option = click.option(
    "--store",
    "url",
    metavar="URL",
    help="Store, such as sqlite:///models/spam/tamis.db.  [env: TAMIS_STORE]",
)


def store_settings(url: str | None) -> Settings:
    """Return the settings that a service would use, with the store at `url` if one is named."""
    from tamis.settings import Settings

    settings = Settings.from_environment(os.environ, Path(".env"))
    return settings if url is None else settings.with_values(store=url)


@asynccontextmanager
async def existing_store(settings: Settings) -> AsyncIterator[Store]:
    """Open a store that a service has filled."""
    from tamis.service.wiring import plain_store
    from tamis.storage import file_of

    path = file_of(settings.store_url)
    # opening would create an empty store at a wrong path
    if path is not None and not path.is_file():
        raise StoreError(f"{path}: file not found; name the service's store with --store")
    # an empty one would be made, and the answer would be that there are no calls
    if settings.store_url == "memory:":
        raise StoreError("memory: exists in its own process only; use GET /log of the service")
    store = plain_store(settings, SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@click.command(epilog="Example: tamis migrate --store cassandra://db1,db2/tamis --replication 3")
@store_option
@click.option(
    "--keyspace", metavar="NAME", help="Keyspace of a cluster, instead of the one in the store's URL."
)
@click.option(
    "--replication",
    default="",
    metavar="COPIES",
    help="Copies of each row of a new keyspace: 3, or DC1:3,DC2:3.  [default: one per node, at most 3]",
)
@click.option(
    "--log-days",
    type=click.IntRange(1, 3_650),
    default=90,
    show_default=True,
    metavar="DAYS",
    help="Days after which a call expires in the tables of a new cluster.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the tables and change nothing.")
def migrate(url: str | None, keyspace: str | None, replication: str, log_days: int, only_print: bool) -> None:
    """Create a store's tables or upgrade them, and print the migrations that were run.

    `tamis serve` does so by itself for an embedded store, and with --migrate for a cluster. A second run does
    nothing. Create a keyspace on Astra in its console.
    """
    from tamis.service.wiring import store_options
    from tamis.storage import StoreHealth, make_store, tables_of

    settings = store_settings(url)
    if keyspace is not None:
        settings = settings.with_keyspace(keyspace)
    # neither is a setting of the service: they take effect when tables are made
    options = store_options(settings)
    options = replace(options, cluster=replace(options.cluster, replication=replication, log_days=log_days))
    if only_print:
        echo(tables_of(settings.store_url, options) or "-- this store has no tables")
        return

    async def migrate(store: Store) -> tuple[list[str], StoreHealth]:
        migrations = await store.migrate()
        await store.open()
        try:
            return migrations, await store.check()
        finally:
            await store.close()

    migrations, health = asyncio.run(migrate(make_store(settings.store_url, SystemClock(), options)))
    for name in migrations:
        echo(f"ran {name}")
    echo(f"{health.store} has schema version {health.schema_version}")


_HIDDEN = "(hidden)"
_DEFAULT = "default"


@click.command(epilog="Example: TAMIS_PORT=8080 tamis settings --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "show_all", is_flag=True, help="Also print settings that have their default.")
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
        # settings of older versions only if they are set
        if extra(field)["instead"] and name not in found:
            continue
        value = getattr(settings, name)
        shown = _HIDDEN if extra(field)["secret"] and value else value
        source = found[name].origin if name in found else _DEFAULT
        rows.append((variables(name, field)[0], shown, source))
    if as_json:
        echo(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows]))
        return
    shown_rows = [row for row in rows if show_all or row[2] != _DEFAULT]
    for name, value, source in shown_rows:
        echo(f"{name}={value if not isinstance(value, bool) else str(value).lower()}")
        # the usual place needs no line
        if source != _DEFAULT and source != name:
            echo(f"    from {source}")
    n_default = len(rows) - len(shown_rows)
    if n_default:
        echo(f"{n_default} settings have their default; --all shows them", err=True)
