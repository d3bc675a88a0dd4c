"""A page of another site cannot log calls under its visitor's name."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.processes import serving


def test_cross_site_get_is_refused_and_not_logged(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", TAMIS_DRAIN_SECONDS="0") as service:
        url = f"{service.address}/prediction?text=planted"
        reply = httpx.get(url, headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "cross_site")
        assert "planted" not in reply.text
        assert httpx.get(f"{service.address}/recent_log").json() == []
        for site in ("same-origin", "same-site", "none"):
            assert httpx.get(url, headers={"sec-fetch-site": site}).status_code == 200
        assert len(httpx.get(f"{service.address}/recent_log").json()) == 3
