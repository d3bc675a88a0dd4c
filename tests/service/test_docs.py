"""The documentation pages need nothing from elsewhere, and their policy forbids it."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin

import httpx
import pytest

Ask = Callable[..., httpx.Response]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_finds_all_it_names_on_this_service(ask: Ask, path: str) -> None:
    page = ask("GET", path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert named
    for address in named:
        assert not re.match(r"\w+:|/", address), "relative, so that it holds behind a proxy's prefix"
        assert ask("GET", urljoin(path, address)).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_docs_page_has_and_allows_no_inline_or_foreign_script(ask: Ask, path: str) -> None:
    page = ask("GET", path)
    assert set(re.findall(r"<script[^>]*>(.*?)</script>", page.text, re.DOTALL)) == {""}
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy


def test_swagger_reads_this_services_document(ask: Ask) -> None:
    assert 'url: "openapi.json"' in ask("GET", "/docs/start.js").text


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/redoc/redoc.standalone.js", "text/javascript; charset=utf-8"),
        ("/redoc/logo-mini.svg", "image/svg+xml"),
        ("/docs/favicon-32x32.png", "image/png"),
    ],
)
def test_a_bundled_file_says_what_it_is(ask: Ask, path: str, media_type: str) -> None:
    file = ask("GET", path)
    assert file.headers["content-type"] == media_type
    assert len(file.content) > 500


def test_redoc_requests_no_outside_address(ask: Ask) -> None:
    script = ask("GET", "/redoc/redoc.standalone.js").content
    assert b"cdn.redoc" not in script
    assert not re.findall(rb"""\bsrc[:=]\s*["']https?:""", script)
    assert script.count(b'src:"redoc/logo-mini.svg"') == 1
