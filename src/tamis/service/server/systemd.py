"""What systemd wants to hear of a service of Type=notify: one datagram a message, see sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


class Notifier:
    """Tells systemd, where it listens; elsewhere every message is lost on purpose."""

    def __init__(self, environ: Mapping[str, str]):
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def tell(self, message: str) -> None:
        """Send one of the messages above; that nobody listens any more is not worth an error."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                self._address = ""
