"""The documentation pages, from files that come with Tamis: they work on a closed network.

Nothing is loaded from elsewhere and no script stands inside a page, so a strict policy can forbid both.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope

from tamis.service.answers import Answer
from tamis.service.routing import Handler, always

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Both pages write style elements at run time, hence 'unsafe-inline'; ReDoc searches in a worker."""

# Paths in the pages are relative, so that they hold behind a proxy that adds a prefix.
_SWAGGER_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API documentation</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_SWAGGER_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
});
"""
_REDOC_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API documentation</title>
<link rel="icon" href="docs/favicon-32x32.png">
<body style="margin: 0">
<redoc spec-url="openapi.json"></redoc>
<script src="redoc/redoc.standalone.js"></script>
</html>
"""
_BUNDLED_FILES = {
    "/docs/favicon-32x32.png": ("swagger_ui", "image/png"),
    "/docs/swagger-ui.css": ("swagger_ui", "text/css"),
    "/docs/swagger-ui-bundle.js": ("swagger_ui", "text/javascript"),
    "/redoc/redoc.standalone.js": ("redoc", "text/javascript"),
}


def docs_handlers() -> dict[str, Handler]:
    """Return what answers `GET` on each path of the documentation pages."""
    written = {
        "/docs": _fixed("text/html", _SWAGGER_PAGE),
        "/docs/start.js": _fixed("text/javascript", _SWAGGER_START),
        "/redoc": _fixed("text/html", _REDOC_PAGE),
    }
    bundled = {path: _bundled(path, *where) for path, where in _BUNDLED_FILES.items()}
    return {**written, **bundled}


def _fixed(media_type: str, text: str) -> Handler:
    headers = [
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"content-security-policy", _POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    return always(Answer(200, headers, text.encode()))


def _bundled(path: str, bundle: str, media_type: str) -> Handler:
    file = files("openapi_ui_bundles") / bundle / "vendor" / path.rpartition("/")[2]
    headers = {"cache-control": "max-age=3600", "x-content-type-options": "nosniff"}

    async def handle(scope: Scope, receive: Receive) -> ASGIApp:
        return FileResponse(str(file), media_type=media_type, headers=headers)

    return handle
