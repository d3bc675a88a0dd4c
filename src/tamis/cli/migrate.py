"""`tamis migrate`."""

from __future__ import annotations

import click

from tamis.cli.stores import store_option


@click.command(epilog="Example: tamis migrate --store sqlite:///models/tamis.db")
@store_option
@click.option("--print", "only_print", is_flag=True, help="Show the tables and change nothing.")
def command(url: str | None, only_print: bool) -> None:
    """Create a store's tables, or bring them up to this version of Tamis.

    `tamis serve` does it by itself for an embedded store. Done twice it does nothing.
    """
    import asyncio

    from tamis.cli.stores import store_url
    from tamis.clock import SystemClock
    from tamis.storage import Health, Store, make_store, tables_of

    where = store_url(url)
    store = make_store(where, SystemClock())
    if only_print:
        click.echo(tables_of(where) or "-- this store has no tables")
        return

    async def migrate(store: Store) -> Health:
        await store.migrate()
        await store.open()
        try:
            return await store.check()
        finally:
            await store.close()

    health = asyncio.run(migrate(store))
    click.echo(f"{health.store} has schema version {health.schema_version}")
