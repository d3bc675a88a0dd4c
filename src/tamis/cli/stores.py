"""The store that a command works on: named by an option, otherwise by the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tamis.settings import Settings
    from tamis.storage import Store

store_option = click.option(
    "--store",
    "url",
    metavar="URL",
    help="Such as sqlite:///models/spam/tamis.db or cassandra://host/keyspace.  [env: TAMIS_STORE]",
)


def store_settings(url: str | None) -> Settings:
    """Return the settings that a service would use, with the store at `url` if one is named."""
    import os
    from pathlib import Path

    from tamis.settings import Settings

    settings = Settings.from_environment(os.environ, Path(".env"))
    return settings if url is None else settings.with_values(store=url)


@asynccontextmanager
async def existing_store(settings: Settings) -> AsyncIterator[Store]:
    """Open a store that a service has filled; a wrong path must not make an empty one."""
    from tamis.clock import SystemClock
    from tamis.errors import StoreError
    from tamis.service.wiring import plain_store
    from tamis.storage import file_of

    path = file_of(settings.store_url)
    if path is not None and not path.is_file():
        raise StoreError(f"{path}: there is no such file; name the service's store with --store")
    if settings.store_url == "memory:":
        raise StoreError("memory: is seen by its own process only; ask the service: GET /log")
    store = plain_store(settings, SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()
