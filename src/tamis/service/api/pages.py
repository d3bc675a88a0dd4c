"""The HTML pages: Swagger UI, ReDoc and the web page, from files that are installed with Tamis.

Nothing is loaded from another host, and no page has a script within its HTML: a strict content security
policy forbids both.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from tamis.service.responses import BytesResponse

_BUNDLE = Path(str(files("openapi_ui_bundles")))
_FOLDER = Path(str(files("tamis.service"))) / "ui"

_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Both documentation pages write style elements at run time, hence 'unsafe-inline'; ReDoc searches in a
worker."""
# stricter than for the documentation: the web page shows texts of other callers, and its code is ours
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

# Paths in the pages are relative, so that they work behind a proxy that adds a prefix. FastAPI's own pages
# have their script within the HTML, which the policy above forbids.
_DOCUMENT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API documentation</title>
<link rel="icon" href="docs/favicon-32x32.png">
{body}
</html>
"""
_SWAGGER = _DOCUMENT.format(
    body="""<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>"""
)
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
});
"""
_REDOC = _DOCUMENT.format(
    body="""<body style="margin: 0">
<redoc spec-url="openapi.json"></redoc>
<script src="redoc/redoc.standalone.js"></script>"""
)

_REDOC_LOGO = (b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"redoc/logo-mini.svg")
"""The logo's address in ReDoc's bundle, a host of its maker, and the path of our copy."""

_BUNDLED_HEADERS = {"cache-control": "max-age=3600", "x-content-type-options": "nosniff"}
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add_pages(router: APIRouter) -> None:
    """Add the documentation's pages and the web page to the application's router."""
    swagger, redoc = _BUNDLE / "swagger_ui" / "vendor", _BUNDLE / "redoc" / "vendor"
    docs: dict[str, BytesResponse | Path] = {
        "start.js": _page(_START.encode(), "text/javascript", _DOCS_POLICY),
        "swagger-ui.css": swagger / "swagger-ui.css",
        "swagger-ui-bundle.js": swagger / "swagger-ui-bundle.js",
        "favicon-32x32.png": swagger / "favicon-32x32.png",
    }
    page = {
        file.name: _page(file.read_bytes(), _MEDIA_TYPES[file.suffix], _PAGE_POLICY)
        for file in sorted(_FOLDER.iterdir())
        if file.suffix in _MEDIA_TYPES
    }
    _add(router, "/docs", _page(_SWAGGER.encode(), "text/html", _DOCS_POLICY), docs)
    script = (redoc / "redoc.standalone.js").read_bytes().replace(*_REDOC_LOGO)
    bundled = [(b"content-type", b"text/javascript; charset=utf-8")]
    bundled += [(name.encode(), value.encode()) for name, value in _BUNDLED_HEADERS.items()]
    _add(
        router,
        "/redoc",
        _page(_REDOC.encode(), "text/html", _DOCS_POLICY),
        {
            "redoc.standalone.js": BytesResponse(200, bundled, script),
            "logo-mini.svg": redoc / "logo-mini.svg",
        },
    )
    _add(router, "/ui", page.pop("index.html"), page)


def _add(
    router: APIRouter, path: str, index: BytesResponse, others: Mapping[str, BytesResponse | Path]
) -> None:
    """Add a page and the files it loads."""

    @router.get(path, include_in_schema=False)
    async def show() -> Response:
        return index

    @router.get(f"{path}/{{file}}", include_in_schema=False)
    async def load(file: str) -> Response:
        found = others.get(file)
        if found is None:
            raise HTTPException(404)
        # our own files and the patched ReDoc script: read once, when the service starts
        if isinstance(found, BytesResponse):
            return found
        return FileResponse(found, headers=_BUNDLED_HEADERS)  # 1.6 MB of Swagger UI: not kept in memory


def _page(content: bytes, media_type: str, policy: str) -> BytesResponse:
    headers = [
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),  # after an upgrade no page may mix old and new files
    ]
    return BytesResponse(200, headers, content)
