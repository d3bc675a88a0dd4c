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

from tamis.service.access import Access
from tamis.service.proxies import UNIX_PEER, TrustedProxies

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


class Callers(ABC):
    """Tells one caller from another."""

    @abstractmethod
    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return who sent this request to a route of `access`, or raise the refusal that it deserves."""


class CallersByAddress(Callers):
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
