"""The store that a command works on: named by an option, otherwise by the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tamis.storage import Store

store_option = click.option(
    "--store", "url", metavar="URL", help="Such as sqlite:///models/tamis.db.  [env: TAMIS_STORE]"
)


def store_url(url: str | None) -> str:
    """Return `url`, or the one that a service with these settings would use."""
    import os
    from pathlib import Path

    from tamis.settings import Settings

    return url or Settings.from_environment(os.environ, Path(".env")).store_url


@asynccontextmanager
async def existing_store(url: str) -> AsyncIterator[Store]:
    """Open a store that a service has filled; a wrong path must not make an empty one."""
    from tamis.clock import SystemClock
    from tamis.errors import StoreError
    from tamis.storage import file_of, make_store

    path = file_of(url)
    if path is not None and not path.is_file():
        raise StoreError(f"{path}: there is no such file; name the service's store with --store")
    if url == "memory:":
        raise StoreError("memory: is seen by its own process only; ask the service: GET /log")
    store = make_store(url, SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()
