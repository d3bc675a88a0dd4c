"""A real nginx with the configuration of `tamis deploy` in front of a real service; both on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.storage import CallRecord, TimeIds, make_store
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.processes import activate, restart_under_load

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = [pytest.mark.alone, pytest.mark.skipif(NGINX is None, reason="no nginx here: make tools")]

_PROXIED = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1", "TAMIS_DRAIN_SECONDS": "0.15"}
_MAIN = """
{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/sites/*.conf;
}}
"""


_SITES = {
    "shipped": "proxy_buffering off;",
    "by_setting": "proxy_buffering off; proxy_ignore_headers X-Accel-Buffering;",
    "by_header": "proxy_buffering on;",
    "buffering": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
}
"""What the log's location says: nginx streams because it is told to, and because the service's own
header asks for it; the last site keeps all it gets, to compare with."""


@dataclass
class Front:
    """nginx, and the socket behind it on which a service is to be activated."""

    ports: dict[str, int]
    """One for each of `_SITES`."""
    folder: Path
    listener: socket.socket

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.folder}/calls.db"

    def client(self, address: str, site: str = "shipped") -> httpx.Client:
        """Return a client that comes from `address`."""
        transport = httpx.HTTPTransport(local_address=address)
        base_url = f"http://127.0.0.1:{self.ports[site]}"
        return httpx.Client(transport=transport, base_url=base_url, timeout=30)

    def behind(self) -> httpx.Client:
        """Return a client of the service itself, past nginx."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.listener.getsockname()[1]}", timeout=30)

    @contextlib.contextmanager
    def service(self, **environ: str) -> Iterator[None]:
        """Run a service behind; what is asked before it is ready waits in the socket."""
        store = {"TAMIS_STORE": self.store_url}
        process = activate(self.listener, self.folder, **(_PROXIED | store | environ))
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        ports = {site: _free_port() for site in _SITES}
        (tmp_path / "sites").mkdir()
        save_model(tmp_path / "spam")
        for site, port in ports.items():
            written = _moved(tmp_path, site, port, listener.getsockname()[1])
            (tmp_path / "sites" / f"{site}.conf").write_text(written)
        user = "user root;" if os.geteuid() == 0 else ""  # the folder of a test is for its owner only
        (tmp_path / "nginx.conf").write_text(_MAIN.format(folder=tmp_path, user=user))
        with _nginx(tmp_path, ports["shipped"]):
            yield Front(ports, tmp_path, listener)


def _free_port() -> int:
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _moved(folder: Path, site: str, port: int, service_port: int) -> str:
    """Return the configuration with ports, and an upstream's name, of its own."""
    text = deployed(folder, "--name", site, "--port", str(service_port))
    for old, new in [("listen 80;", f"listen 127.0.0.1:{port};"), ("proxy_buffering off;", _SITES[site])]:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def deployed(folder: Path, *arguments: str) -> str:
    """Return what `tamis deploy nginx` prints for the model in `folder`."""
    command = tamis_command("deploy", "nginx", str(folder / "spam"), *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


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


@pytest.mark.parametrize("site", ["by_setting", "by_header"])
async def test_nginx_buffers_no_log_for_a_stalled_reader(front: Front, site: str) -> None:
    """The service cannot finish while the reader takes nothing; through a buffering nginx it does."""
    await _log_of(front.store_url, "127.0.0.2", texts=_MORE_TEXTS_THAN_SOCKETS_HOLD)
    here, elsewhere = "/log?format=ndjson&order=newest", "/log?format=ndjson&order=oldest"
    with (
        front.service(TAMIS_SLOW_READ_SECONDS="600"),
        front.client("127.0.0.2", site) as client,
        front.client("127.0.0.2", "buffering") as buffered,
        front.behind() as service,
        client.stream("GET", here) as streamed,
    ):
        pieces = streamed.iter_raw()
        taken = len(next(pieces))
        with buffered.stream("GET", elsewhere):
            _wait_until_a_log_is_answered(service)  # it came second, and its reader stands still too
        taken += sum(map(len, pieces))
    assert taken > _MORE_TEXTS_THAN_SOCKETS_HOLD * _TEXT_CHARS
    said = (front.folder / "error.log").read_text()
    assert re.findall(r"buffered to a temporary file .* \"GET (\S+)", said) == [elsewhere]


_TEXT_CHARS = 10_000
_MORE_TEXTS_THAN_SOCKETS_HOLD = 4_000
"""Forty megabytes: each of the two connections keeps some in its kernel's buffers."""


async def _log_of(store_url: str, caller: str, *, texts: int) -> None:
    clock = SystemClock()
    ids, store = TimeIds(clock), make_store(store_url, clock)
    await store.open()
    for _ in range(texts):
        await store.log.append([CallRecord(ids.next(), caller, "x" * _TEXT_CHARS, "ham", 0.9, "m", False)])
    await store.close()


def _wait_until_a_log_is_answered(service: httpx.Client) -> None:
    """Return when the service has sent the last row of a log."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if 'http_requests_total{route="/log"' in service.get("/metrics").text:
            return
    raise AssertionError("no log was answered to its end")


async def test_a_restart_of_the_service_loses_no_request(front: Front) -> None:
    environ = _PROXIED | {"TAMIS_STORE": front.store_url}
    restarting = restart_under_load(front.listener, front.folder, port=front.ports["shipped"], **environ)
    ledger = await restarting
    assert (ledger.lost, ledger.turned_away, ledger.statuses) == ([], 0, {200})


def test_errors_of_the_service_arrive_unchanged(front: Front) -> None:
    with front.service(TAMIS_MAX_BODY_BYTES="1000"), front.client("127.0.0.2") as client:
        response = client.post("/prediction", json={"text": "x" * 3_000})
        assert response.status_code == 413
        assert json.loads(response.content)["error"]["code"] == "body_too_large"


def test_public_name_reaches_a_service_that_allows_it(front: Front) -> None:
    with front.service(TAMIS_ALLOWED_HOSTS="classify.example.org"), front.client("127.0.0.2") as client:
        assert client.get("/", headers={"host": "classify.example.org"}).status_code == 200
        assert client.get("/", headers={"host": "evil.example"}).json()["error"]["code"] == "unknown_host"


def test_metrics_are_for_this_machine_only(front: Front) -> None:
    with front.service(), front.client("127.0.0.2") as client:
        assert client.get("/metrics").status_code == 403


def test_tls_and_prefix_lead_to_the_same_service(tmp_path: Path) -> None:
    """The certificate is made here; nginx serves under /classify and redirects plain HTTP."""
    port, plain = _free_port(), _free_port()
    names = ("-subj", "/CN=classify.example.org", "-addext", "subjectAltName=DNS:classify.example.org")
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
    ]
    files = ["-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"]
    subprocess.run([*make, "1", *names, *files], check=True, capture_output=True)
    save_model(tmp_path / "spam")
    (tmp_path / "sites").mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        text = deployed(tmp_path, "--tls", "--prefix", "/classify", "--port", str(listener.getsockname()[1]))
        text = text.replace("/etc/letsencrypt/live/classify.example.org", str(tmp_path))
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        text = text.replace("listen 80;", f"listen 127.0.0.1:{plain};")
        (tmp_path / "sites" / "tls.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(_MAIN.format(folder=tmp_path, user=user))
        with _nginx(tmp_path, port):
            front = Front({}, tmp_path, listener)
            with front.service(TAMIS_ALLOWED_HOSTS="classify.example.org"):
                _ask_over_tls(tmp_path, port, plain)


def _ask_over_tls(folder: Path, port: int, plain: int) -> None:
    context = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
    transport = httpx.HTTPTransport(local_address="127.0.0.2", verify=context)
    host = {"host": "classify.example.org"}
    names = {"sni_hostname": "classify.example.org"}
    with httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{port}", headers=host) as client:

        def status(path: str) -> int:
            return client.get(path, extensions=names).status_code

        assert client.get("/classify/", extensions=names).json()["caller_id"] == "127.0.0.2"
        answered = client.post("/classify/prediction", json={"text": "over TLS"}, extensions=names)
        assert answered.headers["strict-transport-security"]
        assert client.get("/classify/recent_log", extensions=names).json()[0]["input"] == "over TLS"
        assert (status("/classify/ui"), status("/classify/docs")) == (200, 200)
        assert (status("/classify/metrics"), status("/prediction")) == (403, 404)
    redirected = httpx.get(f"http://127.0.0.1:{plain}/classify/ui?x=1", headers=host)
    assert redirected.headers["location"] == "https://classify.example.org/classify/ui?x=1"
