"""Who is calling. Knows addresses; what a caller may do with which key is `api_keys`'s.

`routing` asks once for every request that has a handler and leaves the answer in the scope:
`scope[CALLER]` is the `Caller`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network

from starlette.types import Scope

from tamis.service.security.proxies import UNIX_PEER, TrustedProxies


@dataclass(frozen=True, slots=True)
class Access:
    """A key with one of `scopes` opens the route; without scopes any key does.

    An `is_open` route needs no key and looks at none; one that `is_optional` checks a key that is sent.
    """

    scopes: frozenset[str] = frozenset()
    is_open: bool = False
    is_optional: bool = False


PREDICT = Access(frozenset({"predict", "admin"}))
OWN_LOG = Access(frozenset({"predict", "log", "admin"}))
METRICS = Access(frozenset({"metrics", "admin"}))
ANY_KEY = Access()
OPTIONAL_KEY = Access(is_optional=True)
OPEN = Access(is_open=True)

CALLER = "tamis.caller"
"""Where in an ASGI scope the caller stands."""

_REMEMBERED_CALLERS = 4_096
_IPV6_SITE_BITS = 64
"""One subscriber is given at least so large a network and may change addresses within it at will."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` stands in the call log; `limited_as` is whom the rate limit counts."""

    name: str
    limited_as: str
    is_admin: bool = False


class ClientIdentifier(ABC):
    """Tells one caller from another."""

    @abstractmethod
    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return who sent this request to a route of `access`, or raise the refusal that it deserves."""


class AddressIdentifier(ClientIdentifier):
    """Everybody may call and is known by an address; nobody is an administrator."""

    def __init__(self, proxies: TrustedProxies):
        self._proxies = proxies

    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return the caller at the address the request comes from; no request is refused."""
        return caller_at(self._proxies.client(scope))


@lru_cache(_REMEMBERED_CALLERS)
def caller_at(address: str) -> Caller:
    """Return the caller who is known by a normalised address."""
    if ":" not in address or address == UNIX_PEER:
        return Caller(address, limited_as=address)
    return Caller(address, limited_as=str(IPv6Network((address, _IPV6_SITE_BITS), strict=False)))
