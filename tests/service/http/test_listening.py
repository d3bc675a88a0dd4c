"""`tamis serve --host` with a Unix socket and with both families of addresses."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tamis.errors import SettingsError
from tamis.service.http.sockets import listen
from tests.support.processes import ENVIRON, serving

_QUICK = {"TAMIS_DRAIN_SECONDS": "0"}


def ask(path: Path) -> dict[str, str]:
    """Classify a text over a Unix socket, and return who the service says that asked."""
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://tamis", timeout=30) as client:
        assert client.post("/prediction", json={"text": "win"}).status_code == 200
        found: dict[str, str] = client.get("/").json()
        return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unix_socket_is_served_and_removed_at_the_end(tmp_path: Path, workers: str) -> None:
    path = tmp_path / "tamis.sock"
    arguments = ("--mock", "--store", "memory:", "--host", "unix:tamis.sock", "--workers", workers)
    with serving(tmp_path, *arguments, **_QUICK) as service:
        assert f"unix:{path}" in service.said
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert ask(path)["caller_id"] == "unix:"
        assert service.stop() == 0
    assert not path.exists()


def test_socket_of_a_killed_service_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tamis.sock"
    arguments = ("--mock", "--store", "memory:", "--host", f"unix:{path}")
    with serving(tmp_path, *arguments) as killed:
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait(timeout=30)
    assert path.is_socket()
    with serving(tmp_path, *arguments) as service:
        ask(path)
        second = subprocess.run(
            [sys.executable, "-m", "tamis", "serve", *arguments],
            cwd=tmp_path,
            env=ENVIRON,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert re.search("cannot listen on the Unix socket .*: Address already in use; ", second.stderr)
        ask(path)  # the second one has not removed it
        assert service.process.poll() is None


def test_a_client_behind_a_listed_unix_proxy_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tamis.sock"
    arguments = ("--mock", "--store", "memory:", "--host", f"unix:{path}")
    with serving(tmp_path, *arguments, TAMIS_TRUSTED_PROXIES="unix"):
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://tamis", timeout=30) as client:
            found = client.get("/", headers={"x-forwarded-for": "192.0.2.9"}).json()
    assert found["caller_id"] == "192.0.2.9"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "a file that is not a socket is there"),
        ("no/folder", "No such file or directory"),
        ("x" * 200, "path too long"),
        ("", "a file that is not a socket is there"),
    ],
)
def test_a_path_that_cannot_be_had_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SettingsError, match=why):
        listen(f"unix:{tmp_path}/{name}", 0, {})
    assert (tmp_path / "file").read_text() == "kept"


def test_refusing_new_clients_keeps_those_that_wait(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listeners = listen(f"unix:{path}", 0, {})
    [listener] = listeners.sockets
    with listener, socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as late:
        waiting.connect(str(path))
        listeners.refuse_new()
        with pytest.raises(FileNotFoundError):
            late.connect(str(path))
        accepted, _ = listener.accept()
        accepted.close()


def test_a_socket_of_another_process_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listeners = listen(f"unix:{path}", 0, {})
    os.unlink(path)
    with listeners.sockets[0], socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listeners.remove_files()
        assert path.is_socket()


def test_both_families_reach_the_unspecified_address(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(tmp_path, "--mock", "--store", "memory:", "--host", "::", **_QUICK) as service:
        found = re.search(r"http://\[::\]:(\d+)", service.said)
        assert found, service.said
        callers = {
            httpx.get(f"http://{host}:{found[1]}/", timeout=30).json()["caller_id"]
            for host in ("127.0.0.1", "[::1]")
        }
    assert callers == {"127.0.0.1", "::1"}
