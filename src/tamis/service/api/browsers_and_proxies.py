"""Middleware for browsers and proxies: CORS, a path prefix, trailing slashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# a page's script sees only these and a handful of standard response headers
_EXPOSED = ("x-request-id", "retry-after", "ratelimit", "ratelimit-policy", "inference-header-content-length")
# spares browsers a preflight request per call, and a changed setting still takes effect soon
_PREFLIGHT_SECONDS = 600
IS_ALLOWED_ORIGIN = "tamis.is_allowed_origin"
"""Key in an ASGI scope that is set if a page of an origin in TAMIS_CORS_ORIGINS sent the request."""


def allowing_origins(origins: str) -> Callable[[ASGIApp], ASGIApp]:
    """Return the middleware that lets pages of these origins read responses; by default no page can."""
    listed = [origin.strip() for origin in origins.split(",") if origin.strip()]
    if not listed:
        return lambda app: app
    return lambda app: CORSMiddleware(
        _MarkedOrigins(app, listed),
        allow_origins=listed,
        allow_methods=["DELETE", "GET", "POST", "PUT"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )


@final
class _MarkedOrigins:
    """Marks requests whose header `origin` is a listed one."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]):
        self._app, self._is_any = app, "*" in origins
        self._origins = {origin.encode() for origin in origins}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
            if origin is not None and (self._is_any or origin in self._origins):
                scope[IS_ALLOWED_ORIGIN] = True
        return self._app(scope, receive, send)


@final
class PathNormalizer:
    """Removes the prefix of TAMIS_ROOT_PATH, whether a proxy has removed it or not, and a trailing slash."""

    def __init__(self, app: ASGIApp, root_path: str):
        self._app, self._root_path, self._prefix = app, root_path, f"{root_path}/"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            path: str = scope["path"]
            # some proxies strip the prefix and some do not: both work with one setting
            if self._root_path:
                scope["root_path"] = self._root_path
                if path.startswith(self._prefix) or path == self._root_path:
                    path = path[len(self._root_path) :] or "/"
            scope["path"] = path[:-1] if path.endswith("/") and path != "/" else path
        return self._app(scope, receive, send)
