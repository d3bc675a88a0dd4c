"""Protection against DNS rebinding: requests with an unlisted `host` header are refused.

A page of another site can make its own name resolve to this machine's address. The browser then treats our
responses as that site's own, but the header still has that site's name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import final

from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.service.request_body import HEADERS
from tamis.service.responses import error_response

ANY = b"*"

_UNKNOWN_HOST = error_response(
    "unknown_host",
    "the header `host` names a host that this service does not answer for; add it to TAMIS_ALLOWED_HOSTS",
)


def checking_hosts(allowed: str) -> Callable[[ASGIApp], ASGIApp]:
    """Return the middleware for a comma-separated list of names; an empty list and `*` allow every name."""
    names = frozenset(name.strip().lower().encode() for name in allowed.split(",") if name.strip())
    if not names or ANY in names:
        return lambda app: app  # no check: nothing is added to the path of a request
    return lambda app: HostCheck(app, names)


@final
class HostCheck:
    """Pass requests for this service's hosts to `app`; refuse all others."""

    def __init__(self, app: ASGIApp, names: frozenset[bytes]):
        self._app, self._names = app, names
        # bounded, because clients choose the header; a service has few names, so nearly all are hits
        self._is_allowed = lru_cache(maxsize=64)(self._is_listed)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one ASGI connection."""
        # not async: a coroutine that only awaits the next one costs every request a microsecond
        is_allowed = scope["type"] != "http" or self._is_allowed(scope[HEADERS].get(b"host", b""))
        return (self._app if is_allowed else _UNKNOWN_HOST)(scope, receive, send)

    def _is_listed(self, value: bytes) -> bool:
        host = value.lower()
        name, _, port = host.rpartition(b":")
        # the digits tell a port from the last group of an IPv6 address in brackets
        return host in self._names or (port.isdigit() and name in self._names)
