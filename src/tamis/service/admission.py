"""From the settings to whoever tells callers apart and limits them. Opens the files that this takes."""

from __future__ import annotations

from tamis.clock import Clock
from tamis.service.authorization import CallersByKey, WatchedKeys
from tamis.service.callers import Callers, CallersByAddress
from tamis.service.key_file import KeyFile
from tamis.service.proxies import TrustedProxies, UnlistedProxyDetector
from tamis.service.rate_limit import RateLimiter
from tamis.service.rate_table import RateTable
from tamis.settings import Settings


def callers(settings: Settings, clock: Clock) -> Callers:
    """Return who tells callers apart: by their keys where those are required, else by their addresses."""
    listed = settings.trusted_proxies
    if not settings.require_keys:
        return CallersByAddress(TrustedProxies(listed, UnlistedProxyDetector()))
    by_address = CallersByAddress(TrustedProxies(listed))  # for open routes only: nothing to tell apart
    return CallersByKey(WatchedKeys(KeyFile(settings.keys_path), clock), by_address)


def rate_limiter(settings: Settings, clock: Clock) -> RateLimiter | None:
    """Return who counts texts, None where there is no limit."""
    if not settings.rate_per_minute:
        return None
    table = RateTable(settings.rate_path, clock)
    return RateLimiter(table, per_minute=settings.rate_per_minute, burst=settings.rate_burst)
