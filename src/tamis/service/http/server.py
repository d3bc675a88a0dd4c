"""uvicorn's server with a graceful shutdown that loses no request.

After the signal it listens for `drain_seconds` more while every response has `Connection: close`, so that
clients reconnect elsewhere; then it refuses connections, finishes the requests in progress, and ends.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from tamis.errors import TamisError
from tamis.service.http import DRAINING, SAME_SIGNAL_SECONDS
from tamis.service.http.connection import Connection
from tamis.service.http.sockets import Listeners
from tamis.service.http.timeouts import ConnectionLimits, ConnectionMonitor
from tamis.service.responses import EVENTS
from tamis.service.telemetry.logging import FIELDS, error_fields
from tamis.settings import Settings

_TICK_SECONDS = 0.25  # the precision of the timeouts of connections
_GARBAGE_THRESHOLDS = 10_000, 20, 100
_LAST_ARRIVALS_SECONDS = 0.1
"""Time for the first request of connections that were made before listening stopped."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerHooks:
    """Callbacks: `on_start` when requests are accepted, `on_tick` four times a second from the event
    loop, `on_stop` at the signal to stop."""

    on_start: Callable[[], None]
    on_tick: Callable[[], None]
    on_stop: Callable[[], None]


class StartError(TamisError):
    """The application could not start; see its log."""


class Server(uvicorn.Server):
    """Serves one application in this process until a signal or `stop` ends it."""

    def __init__(self, app: ASGIApp, settings: Settings, *, listeners: Listeners, hooks: ServerHooks):
        self._monitor = ConnectionMonitor(connection_limits(settings))
        super().__init__(_config(app, settings, self._monitor))
        self._listeners = listeners
        self._hooks = hooks
        self._drain_seconds = settings.drain_seconds
        self._stop_requested = asyncio.Event()
        self._stop_requested_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve_until_stopped(self) -> None:
        """Serve on this thread; return when every request is answered."""
        self.run(sockets=list(self._listeners.sockets))

    def stop(self) -> None:
        """Begin to stop; call it on the event loop."""
        if self._stop_requested.is_set():
            return
        self.should_exit = True
        self.lifespan.state[DRAINING] = True
        self.server_state.default_headers.append((b"connection", b"close"))
        self._hooks.on_stop()
        self._stop_requested.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal, end at once at a later one."""
        if self.should_exit:
            if time.monotonic() - self._stop_requested_at < SAME_SIGNAL_SECONDS:
                return
            sys.stderr.write("tamis: second stop signal; terminated immediately\n")
            os._exit(1)  # not sys.exit: that waits for threads, one of which may be what hangs
        self.should_exit, self._stop_requested_at = True, time.monotonic()
        if self._loop is not None:
            # the signal may arrive in the middle of any line of the loop
            self._loop.call_soon_threadsafe(self.stop)

    async def startup(self, sockets: Any = None) -> None:
        """Start the application, then accept requests and start the timer."""
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn raises it if the application does not start
            raise StartError("the service could not start: see the lines above") from None
        _collect_garbage_rarely()
        # another ASGI application, as in tests, has no events
        self._monitor.events = self.lifespan.state.get(EVENTS, self._monitor.events)
        self._loop = asyncio.get_running_loop()
        self._ticking = self._loop.create_task(self._tick())
        self._hooks.on_start()
        _log.info("started")
        if self.should_exit:  # the signal came during startup
            self.stop()

    async def main_loop(self) -> None:
        """Wait for the stop signal."""
        await self._stop_requested.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain connections, finish requests in progress, and stop the application."""
        await asyncio.sleep(self._drain_seconds)
        self._listeners.refuse_new()
        await asyncio.sleep(_LAST_ARRIVALS_SECONDS)
        await super().shutdown(sockets)
        self._ticking.cancel()
        _log.info("stopped")

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                if not self.should_exit:
                    await self.on_tick(0)  # renews the date header
                self._monitor.sweep(self.server_state.connections, loop.time())
            except Exception as error:  # noqa: BLE001 - deadlines and heartbeat depend on this loop
                _log.error("timer failed", extra={FIELDS: error_fields(error)})
            try:
                self._hooks.on_tick()
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("timer failed", extra={FIELDS: error_fields(error)})
            await asyncio.sleep(_TICK_SECONDS)


def _collect_garbage_rarely() -> None:
    """Leave what was made at the start out of every collection, and look for cycles less often.

    A collection of everything takes 15 ms, and by default there would be two of them a second.
    """
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return the connection limits of the settings."""
    return ConnectionLimits(
        max_connections=settings.max_connections,
        max_header_bytes=settings.max_header_bytes,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        slow_read_seconds=settings.slow_read_seconds,
        min_read_bytes_per_second=settings.min_read_bytes_per_second,
    )


def _config(app: ASGIApp, settings: Settings, monitor: ConnectionMonitor) -> uvicorn.Config:
    protocol = functools.partial(Connection, monitor=monitor)
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], protocol),
        lifespan="on",
        log_config=None,  # TAMIS_LOG_FORMAT configures logging
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # security/proxies.py reads them
        server_header=False,  # clients need not know what serves them
        ws="none",
        backlog=2_048,
        timeout_keep_alive=cast(int, settings.keep_alive_seconds),
        timeout_graceful_shutdown=cast(int, settings.stop_seconds),
    )
