"""The routes of API keys: only an admin lists and revokes keys, and no key leaves the service."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.service.test_privacy import Keys
from tests.support.processes import serving


def test_admin_lists_and_revokes_keys_over_http(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    settings = {"TAMIS_REQUIRE_KEYS": "true", "TAMIS_KEYS_FILE": str(keys.path)}
    with serving(tmp_path, "--mock", **settings) as service:
        listed = keys.send(service, "root", "GET", "/keys").json()["keys"]
        assert [one["name"] for one in listed] == ["alice", "bob", "reporter", "root"]
        assert listed[0]["scopes"] == ["predict"] and not listed[0]["is_expired"]
        assert all("sha256" not in one for one in listed)
        for method, path in [("GET", "/keys"), ("DELETE", "/keys/bob")]:
            refused = keys.send(service, "alice", method, path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
        for name, status, code in [("root", 422, "own_key"), ("nobody", 404, "key_not_found")]:
            refused = keys.send(service, "root", "DELETE", f"/keys/{name}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert keys.send(service, "root", "DELETE", "/keys/bob").json() == {"name": "bob", "revoked": 1}
        assert "bob" not in keys.path.read_text()
        deadline, status = time.monotonic() + 10, 200
        while status == 200 and time.monotonic() < deadline:  # workers look at the file every second
            status = keys.send(service, "bob", "GET", "/model").status_code
        assert status == 401
        assert keys.send(service, "alice", "GET", "/model").status_code == 200


def test_key_routes_are_closed_without_required_keys(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock") as service:
        refused = httpx.get(f"{service.address}/keys")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_admin")
