"""A page of another site whose name leads to this machine (DNS rebinding) gets nothing from the service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tamis.service.http.sockets import Listeners, listen
from tamis.settings import Settings
from tests.support.processes import Service, activate, serving
from tests.support.serving import client_of, make_app

PATHS = ["/", "/health/live", "/metrics", "/openapi.json", "/ui", "/nowhere"]
REFUSED = (400, "unknown_host")


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on the loopback address to which nobody has named its hosts."""
    folder = tmp_path_factory.mktemp("hosts")
    environ = {"TAMIS_ALLOWED_HOSTS": "", "TAMIS_DRAIN_SECONDS": "0"}
    with serving(folder, "--mock", "--workers", request.param, **environ) as service:
        yield service


def _asked(address: str, host: str, path: str = "/health/live") -> int | tuple[int, str]:
    reply = httpx.get(f"{address}{path}", headers={"host": host})
    return (
        (reply.status_code, reply.json()["error"]["code"]) if reply.status_code == 400 else reply.status_code
    )


@pytest.mark.parametrize("name", ["localhost", "LocalHost", "127.0.0.1", "[::1]"])
def test_loopback_service_answers_for_its_own_names(service: Service, name: str) -> None:
    assert _asked(service.address, f"{name}:{service.port}") == 200
    assert _asked(service.address, name) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", ""],
)
def test_loopback_service_refuses_other_hosts(service: Service, host: str) -> None:
    assert _asked(service.address, host) == REFUSED


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_refused_to_other_hosts(service: Service, path: str) -> None:
    assert _asked(service.address, "evil.example", path) == REFUSED


def test_refusal_names_header_and_setting_not_the_host(service: Service) -> None:
    reply = httpx.get(service.address, headers={"host": "evil.example"})
    message = reply.json()["error"]["message"]
    assert "`host`" in message and "TAMIS_ALLOWED_HOSTS" in message
    assert "evil" not in message


def test_prediction_for_another_host_is_not_logged(service: Service) -> None:
    json, headers = {"text": "planted"}, {"host": "evil.example"}
    assert httpx.post(f"{service.address}/prediction", json=json, headers=headers).status_code == 400
    assert httpx.get(f"{service.address}/recent_log").json() == []


def test_http_1_0_without_host_is_refused(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert client.recv(1_024).startswith(b"HTTP/1.1 400 ")


def test_named_hosts_replace_the_default(tmp_path: Path) -> None:
    environ = {"TAMIS_ALLOWED_HOSTS": "Classify.example.org, 127.0.0.2", "TAMIS_DRAIN_SECONDS": "0"}
    with serving(tmp_path, "--mock", **environ) as service:
        assert _asked(service.address, "classify.example.org") == 200
        assert _asked(service.address, "127.0.0.2:80") == 200
        assert _asked(service.address, f"localhost:{service.port}") == REFUSED


def test_listeners_loopback_address_is_empty_otherwise(tmp_path: Path) -> None:
    with listen("127.0.0.2", 0, {}).sockets[0] as listener:
        assert Listeners([listener], are_given=False).loopback_address == "127.0.0.2"
        assert Listeners([listener], are_given=True).loopback_address == ""
    with socket.socket() as unbound:  # as one on every network of the machine, 0.0.0.0
        assert Listeners([unbound], are_given=False).loopback_address == ""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert Listeners([listener], are_given=False).loopback_address == ""


def test_given_socket_answers_for_any_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = activate(listener, tmp_path, TAMIS_DRAIN_SECONDS="0")
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            reply = httpx.get(address, headers={"host": "evil.example"}, timeout=60)
        finally:
            process.kill()
            process.wait()
    assert reply.status_code == 200


@pytest.mark.parametrize("allowed", ["", "*", "a.example,*"])
async def test_application_answers_for_any_host(allowed: str) -> None:
    async with client_of(make_app(Settings(allowed_hosts=allowed))) as client:
        assert (await client.get("/", headers={"host": "anything.example"})).status_code == 200


@pytest.mark.parametrize("is_fast", [True, False])
async def test_fast_path_checks_the_host(is_fast: bool) -> None:
    settings = Settings(allowed_hosts="a.example", fast_path=is_fast)
    async with client_of(make_app(settings)) as client:
        for host, status in (("a.example:8000", 200), ("b.example", 400)):
            reply = await client.post("/prediction", json={"text": "hello"}, headers={"host": host})
            assert reply.status_code == status


@pytest.mark.parametrize("is_fast", [True, False])
async def test_the_first_of_two_equal_headers_counts(is_fast: bool) -> None:
    """Another server may pass two on: checks, routes and Starlette then have to read the same one."""
    settings = Settings(allowed_hosts="a.example", fast_path=is_fast)
    other = [("content-type", "text/plain"), ("x-request-id", "second")]
    async with client_of(make_app(settings)) as client:
        for hosts, status in ((["a.example", "b.example"], 200), (["b.example", "a.example"], 400)):
            first, second = (("host", host) for host in hosts)
            headers = [first, ("content-type", "application/json"), ("x-request-id", "first"), second, *other]
            reply = await client.post("/prediction", content=b'{"text": "hello"}', headers=headers)
            assert (reply.status_code, reply.headers["x-request-id"]) == (status, "first")
