"""`tamis migrate`."""

from __future__ import annotations

import click

from tamis.cli.stores import store_option
from tamis.cli.terminal import echo


@click.command(epilog="Example: tamis migrate --store cassandra://db1,db2/tamis?local_dc=dc1 --replication 3")
@store_option
@click.option("--keyspace", help="Keyspace of a cluster, instead of the one that the store's URL names.")
@click.option(
    "--replication",
    default="",
    metavar="COPIES",
    help="Copies of each row of a new keyspace: 3, or DC1:3,DC2:3.  [default: one a node, 3 at most]",
)
@click.option(
    "--log-days",
    type=click.IntRange(1, 3_650),
    default=90,
    show_default=True,
    help="Days after which a new cluster's tables forget a call.",
)
@click.option("--print", "only_print", is_flag=True, help="Show the tables and change nothing.")
def command(url: str | None, keyspace: str | None, replication: str, log_days: int, only_print: bool) -> None:
    """Create a store's tables, or bring them up to this version of Tamis.

    `tamis serve` does it by itself for an embedded store, and for a cluster with --migrate. Done
    twice it does nothing. On Astra the keyspace is made in its console.
    """
    import asyncio
    from dataclasses import replace

    from tamis.cli.stores import store_settings
    from tamis.clock import SystemClock
    from tamis.service.wiring import store_options
    from tamis.storage import Health, Store, make_store, tables_of

    settings = store_settings(url)
    if keyspace is not None:
        settings = settings.with_keyspace(keyspace)
    options = store_options(settings)
    options = replace(options, cluster=replace(options.cluster, replication=replication, log_days=log_days))
    if only_print:
        echo(tables_of(settings.store_url, options) or "-- this store has no tables")
        return

    async def migrate(store: Store) -> Health:
        await store.migrate()
        await store.open()
        try:
            return await store.check()
        finally:
            await store.close()

    health = asyncio.run(migrate(make_store(settings.store_url, SystemClock(), options)))
    echo(f"{health.store} has schema version {health.schema_version}")
