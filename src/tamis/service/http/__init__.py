"""Sockets, connections and processes: everything between the network and the ASGI application."""

from collections.abc import Mapping
from typing import Any

DRAINING = "tamis.draining"
"""Key in the ASGI scope's `state` that is set while the service shuts down: it is no longer ready."""

LOST_ROWS_EXIT_CODE = 3
"""Exit code after a graceful shutdown that lost call log rows which were only in memory."""

SAME_SIGNAL_SECONDS = 0.5
"""Stop signals closer together count as one: `timeout` and shells signal a process and its group."""

STREAMED_BODY = "tamis.streamed_body"
"""Key in an ASGI scope that a route sets if it reads the body as it arrives, of any length.

The timeout of the body then counts from the last bytes that arrived, and not while the route is busy."""


def is_draining(scope: Mapping[str, Any]) -> bool:
    """Return whether the service is shutting down; always False under another ASGI server."""
    return bool(scope.get("state", {}).get(DRAINING))
