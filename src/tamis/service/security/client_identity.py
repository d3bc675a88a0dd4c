"""Client identity: which caller sent a request, and which access a route requires.

The route class identifies the caller once per request; `scope[CALLER]` is the `Caller`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Network, ip_network

from starlette.types import Scope

from tamis.errors import InputError
from tamis.service.security.proxies import UNIX_PEER, TrustedProxies


@dataclass(frozen=True, slots=True)
class Access:
    """A key with one of `scopes` opens the route; without scopes any key does.

    An `is_open` route needs no key and looks at none; one that `is_optional` checks a key that is sent.
    """

    scopes: frozenset[str] = frozenset()
    is_open: bool = False
    is_optional: bool = False


# `admin` opens every route, so it is in every set of scopes
PREDICT = Access(frozenset({"predict", "admin"}))
OWN_LOG = Access(frozenset({"predict", "log", "admin"}))
ADMIN = Access(frozenset({"admin"}))
FEEDBACK = Access(frozenset({"feedback", "admin"}))
METRICS = Access(frozenset({"metrics", "admin"}))
ANY_KEY = Access()
OPTIONAL_KEY = Access(is_optional=True)
OPEN = Access(is_open=True)

CALLER = "tamis.caller"
"""Key of the caller in an ASGI scope."""

# bounded, because anyone can send requests from many addresses (IPv6)
_MAX_CACHED_CALLERS = 4_096
_IPV6_SITE_BITS = 64
"""One subscriber gets at least a network of this size and can change addresses within it."""

# for TAMIS_SHORTEN_ADDRESSES: both networks are larger than one subscriber's address or network
_LOGGED_IPV4_BITS, _LOGGED_IPV6_BITS = 24, 48


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller; `limited_as` is the key of the rate limit.

    With shortened addresses `network` is logged instead of `name`; other callers may share it.
    """

    name: str
    limited_as: str
    is_admin: bool = False
    network: str = ""

    @property
    def logged_as(self) -> str:
        """The name that is logged with each call."""
        return self.network or self.name

    def require_own_rows(self) -> None:
        """Raise InputError if the rows of this caller cannot be distinguished from those of others."""
        if self.network:
            message = (
                "addresses are logged shortened, so your calls cannot be distinguished from those of your "
                "network; use API keys (TAMIS_REQUIRE_KEYS)"
            )
            raise InputError("callers_not_distinct", message, field="log")


class ClientIdentifier(ABC):
    """Identifies the client of a request."""

    @abstractmethod
    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return the caller of a request to a route with `access`, or raise the error response."""


class AddressIdentifier(ClientIdentifier):
    """Identifies clients by address; every client may call, none is an administrator."""

    def __init__(self, proxies: TrustedProxies, *, shortens: bool = False):
        self._proxies = proxies
        self._caller_at = caller_in_network if shortens else caller_at

    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return the caller at the request's address; never raises."""
        return self._caller_at(self._proxies.client(scope))


@lru_cache(_MAX_CACHED_CALLERS)
def caller_at(address: str) -> Caller:
    """Return the caller of a normalised address."""
    if ":" not in address or address == UNIX_PEER:  # IPv4 clients rarely have more than one
        return Caller(address, limited_as=address)
    return Caller(address, limited_as=str(IPv6Network((address, _IPV6_SITE_BITS), strict=False)))


@lru_cache(_MAX_CACHED_CALLERS)
def caller_in_network(address: str) -> Caller:
    """Return the caller of a normalised address, whose network alone is logged."""
    if address == UNIX_PEER:
        return caller_at(address)
    bits = _LOGGED_IPV6_BITS if ":" in address else _LOGGED_IPV4_BITS
    return replace(caller_at(address), network=str(ip_network((address, bits), strict=False)))
