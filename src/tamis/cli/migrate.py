"""`tamis migrate`."""

from __future__ import annotations

import click

from tamis.cli.stores import store_option
from tamis.cli.terminal import echo


@click.command(epilog="Example: tamis migrate --store cassandra://db1,db2/tamis?local_dc=dc1 --replication 3")
@store_option
@click.option("--keyspace", help="Keyspace of a cluster, instead of the one in the store's URL.")
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
    help="Days after which a call expires in the tables of a new cluster.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the tables and change nothing.")
def command(url: str | None, keyspace: str | None, replication: str, log_days: int, only_print: bool) -> None:
    """Create a store's tables or upgrade them, and print the migrations that were run.

    `tamis serve` does so by itself for an embedded store, and with --migrate for a cluster. A second run does
    nothing. Create a keyspace on Astra in its console.
    """
    import asyncio
    from dataclasses import replace

    from tamis.cli.stores import store_settings
    from tamis.clock import SystemClock
    from tamis.service.wiring import store_options
    from tamis.storage import Store, StoreHealth, make_store, tables_of

    settings = store_settings(url)
    if keyspace is not None:
        settings = settings.with_keyspace(keyspace)
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
