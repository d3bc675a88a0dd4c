"""A real nginx with the shipped configuration before a real service; both on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.processes import activate, restart_under_load

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here: make tools")

_PROXIED = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1", "TAMIS_DRAIN_SECONDS": "0.15"}
_MAIN = """
{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/tamis.conf;
}}
"""


@dataclass
class Front:
    """nginx, and the socket behind it on which a service is to be activated."""

    port: int
    folder: Path
    listener: socket.socket

    def client(self, address: str, *options: tuple[int, int, int]) -> httpx.Client:
        """Return a client that comes from `address`."""
        transport = httpx.HTTPTransport(local_address=address, socket_options=options)
        return httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @contextlib.contextmanager
    def service(self, **environ: str) -> Iterator[None]:
        """Run a service behind; what is asked before it is ready waits in the socket."""
        store = {"TAMIS_STORE": f"sqlite:///{self.folder}/calls.db"}
        process = activate(self.listener, self.folder, **(_PROXIED | store | environ))
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        _write_configuration(tmp_path, port, listener.getsockname()[1])
        with _nginx(tmp_path, port):
            yield Front(port, tmp_path, listener)


def _write_configuration(folder: Path, port: int, service_port: int) -> None:
    shipped = SHIPPED.read_text()
    changed = shipped.replace("listen 80;", f"listen 127.0.0.1:{port};")
    changed = changed.replace("server 127.0.0.1:8000 ", f"server 127.0.0.1:{service_port} ")
    assert len(re.findall(r"127\.0\.0\.1:\d+", changed)) == 2
    (folder / "tamis.conf").write_text(changed)
    user = "user root;" if os.geteuid() == 0 else ""  # the folder of a test is for its owner only
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))


@contextlib.contextmanager
def _nginx(folder: Path, port: int) -> Iterator[None]:
    assert NGINX
    process = subprocess.Popen(
        [NGINX, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    )
    try:
        asyncio.run(_until_it_listens(port))
        yield
    finally:
        process.terminate()
        process.wait()


async def _until_it_listens(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ConnectionError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return


def test_callers_keep_their_own_identity_and_log(front: Front) -> None:
    with front.service(), front.client("127.0.0.2") as ada, front.client("127.0.0.3") as ben:
        for caller, name in ((ada, "127.0.0.2"), (ben, "127.0.0.3")):
            assert caller.get("/").json()["caller_id"] == name
            caller.post("/prediction", json={"text": f"from {name}"})
        assert [call["input"] for call in ada.get("/recent_log").json()] == ["from 127.0.0.2"]
        assert [call["input"] for call in ben.get("/recent_log").json()] == ["from 127.0.0.3"]


@pytest.mark.parametrize("claimed", ["127.0.0.3", "127.0.0.3, 127.0.0.1", "unix:", "::1"])
def test_a_forged_address_from_outside_changes_nothing(front: Front, claimed: str) -> None:
    forged = {"x-forwarded-for": claimed, "x-real-ip": claimed, "forwarded": f"for={claimed}"}
    with front.service(), front.client("127.0.0.2") as client:
        assert client.get("/", headers=forged).json()["caller_id"] == "127.0.0.2"


def test_the_log_is_streamed_and_not_kept_in_nginx_when_its_reader_is_slow(front: Front) -> None:
    texts = ["a long text " * 80] * 1_000
    little = (socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    with front.service(), front.client("127.0.0.2", little) as slow, front.client("127.0.0.3") as other:
        for _ in range(12):
            slow.post("/predictions", json={"texts": texts, "echo_input": False}).raise_for_status()
        with slow.stream("GET", "/recent_log") as response:
            assert next(response.iter_bytes(1_000)).startswith(b'[{"index":0,"input":"a long text')
            for _ in range(300):  # while this caller does not read, the service has time to send
                other.get("/model")
        assert "response is buffered to a temporary file" not in (front.folder / "error.log").read_text()


def test_the_routes_of_the_log_are_not_buffered_in_the_shipped_configuration() -> None:
    log = re.search(r"location ~ \^/\(recent_log\|log\)\$ \{(.*?)\}", SHIPPED.read_text(), re.DOTALL)
    assert log and "proxy_buffering off;" in log[1]


def test_a_restart_of_the_service_loses_no_request(front: Front) -> None:
    environ = _PROXIED | {"TAMIS_STORE": f"sqlite:///{front.folder}/calls.db"}
    restarting = restart_under_load(front.listener, front.folder, port=front.port, **environ)
    ledger = asyncio.run(restarting)
    assert (ledger.lost, ledger.turned_away, ledger.statuses) == ([], 0, {200})


def test_errors_of_the_service_arrive_unchanged(front: Front) -> None:
    with front.service(TAMIS_MAX_BODY_BYTES="1000"), front.client("127.0.0.2") as client:
        response = client.post("/prediction", json={"text": "x" * 3_000})
        assert response.status_code == 413
        assert json.loads(response.content)["error"]["code"] == "body_too_large"


def test_metrics_are_for_this_machine_only(front: Front) -> None:
    with front.service(), front.client("127.0.0.2") as client:
        assert client.get("/metrics").status_code == 403
