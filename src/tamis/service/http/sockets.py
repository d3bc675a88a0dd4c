"""The sockets that a service listens on: its own, or those that systemd holds open for it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import stat
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from tamis.errors import SettingsError

_BACKLOG = 2_048  # connections that wait while every worker is busy or being replaced
UNIX_PREFIX = "unix:"
"""Begins a host that is the path of a Unix socket."""
_UNIX_MODE = 0o660  # the reverse proxy shares the group
_OTHER_FILES = 700  # among them the connections that are being refused
_FIRST_FD = 3  # SD_LISTEN_FDS_START
_SO_ATTACH_FILTER = 26  # Python's socket module does not have it
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte that holds TCP's flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then keep nothing of the packet
    (0x06, 0, 0, 0xFFFF_FFFF),  # otherwise keep all of it
)
"""A program of the classic packet filter: code, jump if true, jump if false, operand."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listeners:
    """Listening sockets; inherited ones go on listening after this process has ended."""

    sockets: Sequence[socket.socket]
    are_given: bool
    files: dict[int, tuple[str, tuple[int, int]]] = field(default_factory=dict)
    """The path, device and inode of each Unix socket that we bound, by its descriptor."""

    @property
    def address(self) -> str:
        """Where the service is found, as a person would type it."""
        return _shown(self.sockets[0])

    @property
    def loopback_address(self) -> str:
        """The address we bound if only this machine can reach it, as a URL has it; otherwise empty."""
        listener = self.sockets[0]
        if self.are_given or listener.family == socket.AF_UNIX:
            return ""
        host: str = listener.getsockname()[0]
        if not ip_address(host).is_loopback:
            return ""
        return f"[{host}]" if ":" in host else host

    def refuse_new(self) -> None:
        """Refuse new connections but keep those that wait to be accepted; call it before closing.

        Closing a listening socket resets every connection that waits in its queue, with the requests
        that are already in them. A client that is rejected here has sent nothing yet: only packets
        that ask for a connection are dropped, because a client that has our answer to its own believes
        itself connected, and may have sent its request, before the last packet of the handshake is here.
        """
        if self.are_given:
            return
        for listener in self.sockets:
            if listener.family == socket.AF_UNIX:
                self.remove_files()  # no client can connect without the path
            elif sys.platform == "linux":
                _drop_packets(listener, _DROP_SYN)

    def remove_files(self) -> None:
        """Remove the files of this process's Unix sockets, unless another process has replaced them."""
        for listener in () if self.are_given else self.sockets:
            if listener.family == socket.AF_UNIX and listener.fileno() in self.files:
                path, identity = self.files.pop(listener.fileno())
                with contextlib.suppress(FileNotFoundError):
                    if _identity(path) == identity:
                        os.unlink(path)


def listen(host: str, port: int, environ: Mapping[str, str]) -> Listeners:
    """Take over the sockets of systemd's socket activation, or else bind the address.

    `host` may be `unix:PATH`, and `::` takes IPv4 too. Raises SettingsError where the address cannot be had.
    """
    given = _given(environ)
    if given:
        return Listeners(given, are_given=True)
    if not host.startswith(UNIX_PREFIX):
        return Listeners([_bind(host, port)], are_given=False)
    path = os.path.abspath(host.removeprefix(UNIX_PREFIX))
    listener = _bind_unix(path)
    return Listeners([listener], are_given=False, files={listener.fileno(): (path, _identity(path))})


def allow_connections(count: int) -> None:
    """Let this process, and those it starts, open that many connections, as far as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            _log.warning(
                "the limit of open files (ulimit -n) is %d, but TAMIS_MAX_CONNECTIONS=%d needs %d; "
                "raise the first or lower the second",
                allowed,
                count,
                needed,
            )


def _given(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return what systemd passed to this very process; see sd_listen_fds(3)."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        raise SettingsError(f"LISTEN_FDS must be a number of sockets, not {count!r}")
    try:
        return [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]
    except OSError as failed:
        raise SettingsError(f"LISTEN_FDS names what is no socket: {failed.strerror}") from None


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        is_dual = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual)
    except (OSError, UnicodeError) as failed:
        why = str(failed.strerror if isinstance(failed, OSError) else "not the name of a host")
        plainly, _, _ = why.partition(" (while")  # Python adds the address once more
        raise SettingsError(
            f"cannot listen on {host} port {port}: {plainly}; choose another with --host and --port "
            "(TAMIS_HOST, TAMIS_PORT)"
        ) from None


def _bind_unix(path: str) -> socket.socket:
    """Listen on a path that only this user and its group may connect to."""
    listener = socket.socket(socket.AF_UNIX)
    # between bind and chmod anyone might connect: the mode has to be right from the start
    umask = os.umask(0o777 - _UNIX_MODE)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as failed:
        listener.close()
        why = failed.strerror or str(failed)  # of a path that is too long there is no number
        raise SettingsError(
            f"cannot listen on the Unix socket {path}: {why}; "
            "choose another with --host unix:PATH (TAMIS_HOST)"
        ) from None
    finally:
        os.umask(umask)
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a process that was killed; leave one that answers, and any other file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:  # its queue is full: it is in use
            return


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _drop_packets(listener: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = array("B", b"".join(struct.pack("@HBBI", *instruction) for instruction in program))
    address, _ = code.buffer_info()
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))


def _shown(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


class Notifier:
    """Notifies systemd if it started this process; otherwise does nothing."""

    def __init__(self, environ: Mapping[str, str]):
        # systemd writes an abstract socket, whose name begins with NUL, as @
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def send(self, message: str) -> None:
        """Send one of the messages above; ignore a missing listener."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                self._address = ""  # no listener: trying again at every tick is useless
