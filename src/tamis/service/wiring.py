"""Builds parts of the application from the settings: store, client identity, rate limiter, drift monitor.

Opens the files that these need; reads no environment.
"""

from __future__ import annotations

from pathlib import Path

from tamis.clock import Clock
from tamis.errors import SettingsError
from tamis.inference.drift_report import DriftLimits
from tamis.inference.model_pool import ModelPool
from tamis.service.drift import DriftMonitor
from tamis.service.security.api_keys import KeyFile
from tamis.service.security.auth import ApiKeyIdentifier, ApiKeyWatcher
from tamis.service.security.client_identity import AddressIdentifier, ClientIdentifier
from tamis.service.security.proxies import TrustedProxies, UnlistedProxyDetector
from tamis.service.security.rate_limit import RateLimiter
from tamis.service.security.rate_table import RateTable
from tamis.settings import Settings
from tamis.storage import (
    Astra,
    ClusterOptions,
    FileSpool,
    MemorySpool,
    ResilientStore,
    Store,
    StoreOptions,
    make_store,
)

_TOKEN_USER = "token"  # Astra's user name for application tokens

# more files than workers: a worker that is being replaced may still hold its own
_SPARE_SPOOLS = 2


def store_options(settings: Settings) -> StoreOptions:
    """Return the store options of the settings."""
    cluster = ClusterOptions(
        deadline_seconds=settings.store_deadline_seconds,
        cache_deadline_seconds=settings.cache_deadline_seconds,
        log_consistency=settings.store_log_consistency,
        cache_consistency=settings.store_cache_consistency,
        astra=_astra(settings) if settings.store_url == "astra:" else None,
    )
    return StoreOptions(
        full_durability=settings.store_full_durability,
        cache_seconds=settings.cache_seconds,
        cache_rows=settings.cache_rows,
        is_alone=settings.workers == 1,
        cluster=cluster,
    )


def plain_store(settings: Settings, clock: Clock) -> Store:
    """Return the store of the settings, without spool and retries."""
    return make_store(settings.store_url, clock, store_options(settings))


def resilient_store(settings: Settings, clock: Clock) -> ResilientStore:
    """Return the store with a spool for calls that cannot be written now.

    For an embedded store the spool is in memory: if its disk fails, a spool file would fail, too. For a
    cluster it is a file, which survives a restart.
    """
    store = plain_store(settings, clock)
    if not settings.is_store_a_cluster:
        return ResilientStore(store, MemorySpool(), clock, may_start_without=True)
    spool = FileSpool(settings.spool_path, slots=settings.workers + _SPARE_SPOOLS)
    return ResilientStore(store, spool, clock, may_start_without=settings.start_without_store)


def drift_monitor(settings: Settings, pool: ModelPool, clock: Clock) -> DriftMonitor:
    """Return the monitor that compares the served predictions with the training profile."""
    return DriftMonitor(
        pool,
        clock,
        directory=settings.drift_directory,
        window=settings.drift_texts,
        limits=DriftLimits(settings.drift_psi, settings.drift_share),
    )


def _astra(settings: Settings) -> Astra:
    """Return the Astra database of the settings; a token wins over a client's id and secret."""
    user, password = _TOKEN_USER, settings.astra_db_application_token
    if not password:
        user, password = settings.astra_db_client_id, settings.astra_db_client_secret
    needed = {
        "ASTRA_DB_KEYSPACE": settings.astra_db_keyspace,
        "ASTRA_DB_SECURE_BUNDLE_PATH": settings.astra_db_secure_bundle_path,
        "ASTRA_DB_APPLICATION_TOKEN (or ASTRA_DB_CLIENT_ID and ASTRA_DB_CLIENT_SECRET)": user and password,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise SettingsError(f"store astra: needs {' and '.join(missing)}")
    return Astra(
        Path(settings.astra_db_secure_bundle_path), settings.astra_db_keyspace, user=user, password=password
    )


def callers(settings: Settings, clock: Clock) -> ClientIdentifier:
    """Return the client identifier: by API key if keys are required, otherwise by address."""
    listed, shortens = settings.trusted_proxies, settings.shorten_addresses
    if not settings.require_keys:
        proxies = TrustedProxies(listed, UnlistedProxyDetector())
        return AddressIdentifier(proxies, shortens=shortens)
    # for routes that need no key; without a detector, because keys distinguish the clients of a proxy
    by_address = AddressIdentifier(TrustedProxies(listed), shortens=shortens)
    return ApiKeyIdentifier(ApiKeyWatcher(KeyFile(settings.keys_path), clock), by_address)


def rate_limiter(settings: Settings, clock: Clock) -> RateLimiter | None:
    """Return the rate limiter, None without a limit."""
    if not settings.rate_per_minute:
        return None  # and no file: a service without a limit may run on a read-only disk
    table = RateTable(settings.rate_path, clock)
    return RateLimiter(table, per_minute=settings.rate_per_minute, burst=settings.rate_burst)
