"""The page's files, which stand beside this one, as answers. Knows their names and their policy only.

Nothing is loaded from elsewhere, no script or style stands inside the page, and no text can become
markup: the policy forbids all three, so a mistake in the scripts would fail and not be exploited.
"""

from __future__ import annotations

from importlib.resources import files

from tamis.service.answers import Answer
from tamis.service.routing import Handler, always

PAGE = "/ui"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),  # after an upgrade nobody's page is made of old and new files
]
_TYPE_BY_FILE = {
    "index.html": b"text/html; charset=utf-8",
    "page.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "service.js": b"text/javascript; charset=utf-8",
    "drawing.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}


def page_handlers() -> dict[str, Handler]:
    """Return what answers `GET` on the page's path and on those of its files."""
    folder = files(__package__)
    return {
        PAGE if name == "index.html" else f"{PAGE}/{name}": always(
            Answer(200, [(b"content-type", media_type), *_HEADERS], (folder / name).read_bytes())
        )
        for name, media_type in _TYPE_BY_FILE.items()
    }
