"""From the settings to the parts that `create_app` takes. Opens nothing and reads no environment."""

from __future__ import annotations

from tamis.clock import Clock
from tamis.settings import Settings
from tamis.storage import MemorySpool, ResilientStore, Store, StoreOptions, make_store


def plain_store(settings: Settings, clock: Clock) -> Store:
    """Return the store that the settings name, without anything around it."""
    options = StoreOptions(
        full_durability=settings.store_full_durability,
        cache_seconds=settings.cache_seconds,
        cache_rows=settings.cache_rows,
    )
    return make_store(settings.store_url, clock, options)


def resilient_store(settings: Settings, clock: Clock) -> ResilientStore:
    """Return the store in which calls wait while it fails, also when it does so at the start.

    They wait in memory: whatever stops an embedded store stops a file beside it too.
    """
    return ResilientStore(plain_store(settings, clock), MemorySpool(), clock, may_start_without=True)
