"""A proxy that TAMIS_TRUSTED_PROXIES does not list is reported once, by a real service."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.processes import Service, serving

WARNING = "TAMIS_TRUSTED_PROXIES does not list it"


def _ask(
    service: Service, *addresses: str, header: str = "x-forwarded-for", source: str = "127.0.0.1"
) -> None:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(transport=transport, base_url=service.address) as client:
        for address in addresses:
            assert client.get("/", headers={header: address}).json()["caller_id"] == source
            assert client.get("/", headers={"user-agent": "probe"}).status_code == 200


def _addresses(count: int) -> list[str]:
    return [f"192.0.2.{last}" for last in range(count)]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_unlisted_proxy_is_reported_once(tmp_path: Path, header: str) -> None:
    with serving(tmp_path, "--mock", TAMIS_DRAIN_SECONDS="0") as service:
        _ask(service, *_addresses(9), header=header)
        assert WARNING not in service.said
        _ask(service, *_addresses(20), header=header)
        [line] = [line for line in service.said.splitlines() if WARNING in line]
        assert "all requests come from 127.0.0.1" in line and "add 127.0.0.1" in line
        assert "192.0.2." not in line


def test_listed_proxy_is_not_reported(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", TAMIS_TRUSTED_PROXIES="127.0.0.1", TAMIS_DRAIN_SECONDS="0") as service:
        with httpx.Client(base_url=service.address) as client:
            for address in _addresses(20):
                reply = client.get("/", headers={"x-forwarded-for": address})
                assert reply.json()["caller_id"] == address
        assert WARNING not in service.said


def test_forged_headers_among_other_peers_are_not_reported(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", TAMIS_DRAIN_SECONDS="0") as service:
        for _ in range(6):
            _ask(service, *_addresses(3), source="127.0.0.2")
            _ask(service, *_addresses(3), source="127.0.0.3")
        assert WARNING not in service.said
