"""The client's address: the peer's, or the one in `X-Forwarded-For` if the peer is a trusted proxy.

X-Forwarded-For: 203.0.113.9, 10.0.0.2        each proxy appends the address of its own peer
                 ▲ untrusted: the client ◄─── trusted ◄─── peer: trusted; read from right to left
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

from tamis.service.request_body import HEADERS

Address = IPv4Address | IPv6Address

UNIX_PEER = "unix:"
"""The caller's name behind a Unix socket without a trusted proxy; no address and no key is called so."""

_MAX_CACHED_ADDRESSES = 4_096
# no real chain of proxies is as long: bounds the work that a forged header can cause
_MAX_HOPS = 32
_MAX_ENTRY_CHARS = 64
"""The longest address with brackets, zone and port is shorter."""

_FORWARDING_HEADERS = frozenset({b"x-forwarded-for", b"forwarded"})
_SUSPICIOUS_REQUESTS = 10
"""Consecutive forwarded requests of one peer after which it is reported as an unlisted proxy."""

# some proxies append the port of the connection; brackets are for IPv6 only
_WITH_PORT = re.compile(r"\[([^]]*:[^]]*)\](?::\d{1,5})?|([^:[]*):\d{1,5}", re.ASCII)

_log = logging.getLogger(__name__)


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is trusted: addresses, networks, and `unix` for a Unix socket.

    `listed` has been checked by the settings; an empty list trusts none. With `detector`, a proxy that
    is not listed is detected.
    """

    def __init__(self, listed: str = "", detector: UnlistedProxyDetector | None = None):
        entries = {entry.strip() for entry in listed.split(",")} - {""}
        self._trusts_unix = "unix" in entries
        self._networks = [ip_network(entry) for entry in sorted(entries - {"unix"})]
        # parsing an address and comparing networks takes microseconds, and clients repeat
        self._resolve = lru_cache(_MAX_CACHED_ADDRESSES)(self._resolve_uncached)
        self._detector = detector

    def client(self, scope: Scope) -> str:
        """Return the normalised address of the client, or `UNIX_PEER`."""
        peer = scope.get("client")
        if not peer or not peer[0]:
            name, is_trusted = UNIX_PEER, self._trusts_unix
        else:
            try:
                name, is_trusted = self._resolve(peer[0])
            except ValueError:  # some servers and test clients name their peer by a word
                name, is_trusted = peer[0], False
        if is_trusted:
            return self._forwarded(scope, name)
        if self._detector is not None:
            self._detector.observe(name, scope[HEADERS])
        return name

    def _forwarded(self, scope: Scope, nearest: str) -> str:
        """Return the rightmost address in the header that is not a trusted proxy.

        Entries further left were written by that address itself and may be anything. At an entry that is
        not an address the search ends with the last one that a trusted proxy reported.
        """
        # a client or proxy may send the header several times; RFC 9110 joins them in their order
        rest = b",".join([value for name, value in scope["headers"] if name == b"x-forwarded-for"])
        for _ in range(_MAX_HOPS):
            if not rest:
                break
            rest, _, entry = rest.rpartition(b",")
            if len(entry) > _MAX_ENTRY_CHARS:  # never an address, and it must not fill the cache
                break
            try:
                nearest, is_trusted = self._resolve(_without_port(entry.decode("ascii").strip()))
            except ValueError:
                break
            if not is_trusted:
                break
        return nearest

    def _resolve_uncached(self, text: str) -> tuple[str, bool]:
        """Return the normalised address, and whether it is a trusted proxy's."""
        address = normalised(text)
        return str(address), any(address in network for network in self._networks)


class UnlistedProxyDetector:
    """Logs a warning, once, if all requests come from one peer that forwards them for others.

    Such a peer is most likely a proxy that is missing in `TAMIS_TRUSTED_PROXIES`: all its clients then share
    one call log and one rate limit. A single forged header, or one client's proxy among other peers, is not
    reported.
    """

    def __init__(self) -> None:
        self._peer = ""
        self._forwarded = 0

    def observe(self, peer: str, headers: Collection[bytes]) -> None:
        """Count a request from a peer that is not trusted."""
        if self._forwarded >= _SUSPICIOUS_REQUESTS:  # warned already: every further request returns here
            return
        if peer != self._peer:
            self._peer, self._forwarded = peer, 0
        if not _FORWARDING_HEADERS.isdisjoint(headers):
            self._forwarded += 1
            if self._forwarded >= _SUSPICIOUS_REQUESTS:
                name, entry = ("the Unix socket", "unix") if peer == UNIX_PEER else (peer, peer)
                _log.warning(
                    "all requests come from %s with X-Forwarded-For or Forwarded, but TAMIS_TRUSTED_PROXIES "
                    "does not list it: all clients are one caller, with one call log and one rate limit; if "
                    "it is your proxy, add %s and let it send X-Forwarded-For",
                    name,
                    entry,
                )


def normalised(text: str) -> Address:
    """Return an address, IPv4-mapped IPv6 as IPv4, without its zone; raise ValueError if it is none."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        # a dual-stack socket reports IPv4 clients as ::ffff:1.2.3.4; they are one caller on both
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _without_port(entry: str) -> str:
    """Return the address of `1.2.3.4:5`, `[::1]` or `[::1]:5`; any other entry unchanged."""
    found = _WITH_PORT.fullmatch(entry)
    return entry if found is None else found[1] or found[2]
