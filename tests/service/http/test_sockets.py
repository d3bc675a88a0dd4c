"""Whose sockets are listened on, and what becomes of a queue when nobody new is let in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tamis.errors import SettingsError
from tamis.service.http.sockets import READY, Listeners, Notifier, listen


def test_listen_binds_the_address_when_nothing_is_given() -> None:
    listeners = listen("127.0.0.1", 0, {})
    [listener] = listeners.sockets
    with listener:
        assert not listeners.are_given
        assert listeners.address == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_listen_ignores_sockets_for_another_process() -> None:
    listeners = listen("127.0.0.1", 0, {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getppid())})
    [listener] = listeners.sockets
    with listener:
        assert not listeners.are_given


@pytest.mark.parametrize("count", ["", "many", "-1", "٣"])
def test_listen_refuses_a_strange_number_of_sockets(count: str) -> None:
    with pytest.raises(SettingsError, match="LISTEN_FDS must be a number of sockets"):
        listen("127.0.0.1", 0, {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_address_is_shown_as_it_is_typed(host: str, shown: str) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    listeners = listen(host, 0, {})
    assert listeners.address.startswith(shown)
    listeners.sockets[0].close()


def test_a_unix_socket_is_shown_by_its_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert Listeners([listener], are_given=True).address == f"unix:{tmp_path}/s"


def test_nobody_new_is_let_in_but_who_waits_is_kept() -> None:
    listeners = listen("127.0.0.1", 0, {})
    [listener] = listeners.sockets
    address = listener.getsockname()
    with listener, socket.create_connection(address) as waiting:
        waiting.sendall(b"hello")
        listeners.refuse_new()
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.1)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_who_has_begun_to_connect_is_let_in() -> None:
    listeners = listen("127.0.0.1", 0, {})
    [listener] = listeners.sockets
    listener.settimeout(5)
    # the kernel now keeps a handshake half done until the first byte of the request is here
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    with listener, socket.create_connection(listener.getsockname()) as connecting:
        listeners.refuse_new()
        connecting.sendall(b"hello")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_a_given_socket_goes_on_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Listeners([listener], are_given=True).refuse_new()
        socket.create_connection(listener.getsockname(), timeout=5).close()


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_where_it_listens(tmp_path: Path, is_abstract: bool) -> None:
    name = f"@tamis-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0", 1) if is_abstract else name)
        Notifier({"NOTIFY_SOCKET": name}).send(READY)
        assert systemd.recv(100) == b"READY=1"


def test_that_nobody_listens_to_notices_is_no_error(tmp_path: Path) -> None:
    Notifier({}).send(READY)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "missing")}).send(READY)
