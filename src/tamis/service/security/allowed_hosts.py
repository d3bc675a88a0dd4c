"""Only requests whose header `host` names this service are answered.

A page of another site can let its own name lead to this machine's address (DNS rebinding): the browser then
takes our responses for that site's own. The header still has that site's name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import final

from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.service.request_body import HEADERS
from tamis.service.responses import error_response

ANY = "*"

_UNKNOWN = error_response(
    "unknown_host",
    "the header `host` names a host that this service does not answer for; add it to TAMIS_ALLOWED_HOSTS",
)


def checking_hosts(allowed: str) -> Callable[[ASGIApp], ASGIApp]:
    """Return the middleware for a comma-separated list of names; an empty list and `*` allow every name."""
    names = frozenset(name.strip().lower().encode() for name in allowed.split(",") if name.strip())
    if not names or ANY.encode() in names:
        return lambda app: app
    return lambda app: HostCheck(app, names)


@final
class HostCheck:
    """Answers as `app` does, but refuses requests for other hosts."""

    def __init__(self, app: ASGIApp, names: frozenset[bytes]):
        self._app, self._names = app, names
        self._is_named = lru_cache(maxsize=64)(self._names_this_service)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one ASGI connection."""
        # not async: a coroutine that only waits for the next one costs every request a microsecond
        allowed = scope["type"] != "http" or self._allows(scope)
        return (self._app if allowed else _UNKNOWN)(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        """Return whether the request has a header `host`, and an allowed name in it."""
        return self._is_named(scope[HEADERS].get(b"host", b""))

    def _names_this_service(self, value: bytes) -> bool:
        host = value.lower()
        return host in self._names or _without_port(host) in self._names


def _without_port(host: bytes) -> bytes:
    name, _, port = host.rpartition(b":")
    return name if port.isdigit() else host
