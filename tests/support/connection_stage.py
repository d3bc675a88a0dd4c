"""Connections on real sockets, whose time passes only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from tamis.service.http.connection import Connection
from tamis.service.http.timeouts import ConnectionLimits, ConnectionMonitor

LIMITS = ConnectionLimits(
    max_connections=3,
    max_header_bytes=1_000,
    header_seconds=10,
    body_seconds=30,
    keep_alive_seconds=75,
    slow_read_seconds=10,
    min_read_bytes_per_second=1_000,
)
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    """A listening server whose time is moved by hand."""

    def __init__(self, port: int, monitor: ConnectionMonitor, state: ServerState):
        self.port = port
        self.monitor = monitor
        self.state = state
        self.now = 1_000.0
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
        self.clients.append(client)
        return client

    async def pass_time(self, seconds: float) -> None:
        """Let what was sent arrive, then look at the connections as often as the server does."""
        await self.settle()
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            self.monitor.sweep(self.state.connections, self.now)
        await self.settle()

    async def settle(self) -> None:
        """Let everything that is under way on the loopback arrive."""
        for _ in range(50):
            await asyncio.sleep(0)


@asynccontextmanager
async def _staged(application: ASGIApp, limits: ConnectionLimits) -> AsyncIterator[Stage]:
    loop, monitor, state = asyncio.get_running_loop(), ConnectionMonitor(limits), ServerState()
    config = uvicorn.Config(application, log_config=None, ws="none", timeout_keep_alive=3_600)
    app_state = {"left": []}

    def connection() -> Connection:
        return Connection(config, state, app_state, loop, monitor=monitor)

    server = await loop.create_server(connection, "127.0.0.1", 0)
    stage = Stage(server.sockets[0].getsockname()[1], monitor, state)
    try:
        yield stage
    finally:
        for _, writer in stage.clients:
            writer.transport.abort()
        for open_connection in list(state.connections):
            open_connection.transport.abort()
        server.close()
        await stage.settle()


def on_stage(
    test: Callable[[Stage], Awaitable[None]],
    application: ASGIApp,
    limits: ConnectionLimits = LIMITS,
    *,
    seconds: float = 30,
) -> None:
    """Run `test` with a server of `application` on the event loop that serves in earnest."""

    async def run() -> None:
        async with asyncio.timeout(seconds), _staged(application, limits) as stage:
            await test(stage)

    with asyncio.Runner(loop_factory=uvicorn.Config(application).get_loop_factory()) as runner:
        runner.run(run())
