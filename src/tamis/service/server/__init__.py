"""Processes and connections: what stands between the network and the application.

Knows sockets, signals and uvicorn; knows no route, no model and no store.
"""

DRAINING = "tamis.draining"
"""Stands in the ASGI scope's `state` once the service has been told to stop: it is no longer ready."""

SAME_SIGNAL_SECONDS = 0.5
"""Signals to stop this close together are one: `timeout` and shells signal a process and its group."""
