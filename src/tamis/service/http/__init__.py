"""Processes and connections: what stands between the network and the application.

Knows sockets, signals and uvicorn; knows no route, no model and no store.
"""

DRAINING = "tamis.draining"
"""Stands in the ASGI scope's `state` once the service has been told to stop: it is no longer ready."""

LOST_ROWS_EXIT_CODE = 3
"""Exit code of a process that stopped in order, but lost rows of the call log that waited in its memory."""

SAME_SIGNAL_SECONDS = 0.5
"""Signals to stop this close together are one: `timeout` and shells signal a process and its group."""
