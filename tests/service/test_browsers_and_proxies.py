"""CORS, the path prefix, trailing slashes and the short names of the health checks."""

from __future__ import annotations

import httpx
import pytest

from tamis.errors import SettingsError
from tamis.settings import Settings
from tests.support.serving import client_of, make_app

ORIGIN = "https://app.example.org"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,authorization",
}


async def _asked(settings: Settings, method: str, path: str, **options: object) -> httpx.Response:
    async with client_of(make_app(settings)) as client:
        return await client.request(method, path, **options)  # type: ignore[arg-type]


async def test_preflight_is_answered_for_listed_origins_only() -> None:
    settings = Settings(cors_origins=f"{ORIGIN}, https://other.example.org")
    allowed = await _asked(settings, "OPTIONS", "/prediction", headers=PREFLIGHT)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "content-type" in allowed.headers["access-control-allow-headers"]
    foreign = PREFLIGHT | {"origin": "https://evil.example.org"}
    refused = await _asked(settings, "OPTIONS", "/prediction", headers=foreign)
    assert "access-control-allow-origin" not in refused.headers
    off = await _asked(Settings(), "OPTIONS", "/prediction", headers=PREFLIGHT)
    assert (off.status_code, "access-control-allow-origin" in off.headers) == (405, False)


async def test_responses_and_errors_can_be_read_by_a_listed_page() -> None:
    settings = Settings(cors_origins=ORIGIN)
    for body, status in [({"text": "win"}, 200), ({}, 422)]:
        found = await _asked(settings, "POST", "/prediction", json=body, headers={"origin": ORIGIN})
        assert found.status_code == status
        assert found.headers["access-control-allow-origin"] == ORIGIN
        assert "x-request-id" in found.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("listed", "origin", "status"),
    [
        (ORIGIN, ORIGIN, 200),
        ("*", ORIGIN, 200),
        (ORIGIN, "https://evil.example.org", 403),
        (ORIGIN, None, 403),  # an image or a link: no page can read the response
        ("", ORIGIN, 403),
    ],
)
async def test_a_listed_page_may_ask_by_get(listed: str, origin: str | None, status: int) -> None:
    headers = {"sec-fetch-site": "cross-site"} | ({} if origin is None else {"origin": origin})
    found = await _asked(Settings(cors_origins=listed), "GET", "/prediction?text=win", headers=headers)
    assert found.status_code == status
    assert ("access-control-allow-origin" in found.headers) == (status == 200)


async def test_prefix_is_removed_whether_the_proxy_does_or_not() -> None:
    settings = Settings(root_path="/ml/spam")
    async with client_of(make_app(settings)) as client:
        for path in ["/prediction", "/ml/spam/prediction", "/ml/spam/prediction/"]:
            assert (await client.post(path, json={"text": "win"})).status_code == 200
        assert (await client.get("/ml/spam")).json()["api_name"] == "Tamis"
        assert (await client.get("/ml/spamx/model")).status_code == 404
        document = (await client.get("/ml/spam/openapi.json")).json()
        assert document["servers"] == [{"url": "/ml/spam"}]
        page = (await client.get("/metrics")).text
    assert 'http_requests_total{route="/prediction",method="POST",status="200"} 3' in page


@pytest.mark.parametrize("path", ["/model", "/health/live", "/docs", "/v2", "/v2/models/keywords", "/ui"])
async def test_trailing_slash_is_ignored(path: str) -> None:
    plain, slashed = await _asked(Settings(), "GET", path), await _asked(Settings(), "GET", f"{path}/")
    assert plain.status_code == slashed.status_code == 200
    assert plain.content == slashed.content


async def test_health_has_short_names() -> None:
    assert (await _asked(Settings(), "GET", "/health")).json()["status"] == "ready"
    assert (await _asked(Settings(), "GET", "/healthz")).json()["status"] == "live"


@pytest.mark.parametrize("value", ["example.org", "https://a.example/b", "https://"])
def test_an_origin_that_no_browser_sends_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="TAMIS_CORS_ORIGINS"):
        Settings.from_environment({"TAMIS_CORS_ORIGINS": value})
