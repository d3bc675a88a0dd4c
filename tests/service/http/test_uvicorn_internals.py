"""The internals of uvicorn that Tamis relies on; when this fails with a new one, see service/http first."""

from __future__ import annotations

import asyncio
import inspect

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState


async def _application(scope: object, receive: object, send: object) -> None:
    raise NotImplementedError


def _parameters(function: object) -> list[str]:
    return [*inspect.signature(function).parameters]  # type: ignore[arg-type]


def test_uvicorn_server_has_the_steps_that_are_overridden() -> None:
    server = uvicorn.Server(uvicorn.Config(_application, lifespan="on"))
    assert _parameters(uvicorn.Server.startup) == ["self", "sockets"]
    assert _parameters(uvicorn.Server.shutdown) == ["self", "sockets"]
    assert _parameters(uvicorn.Server.main_loop) == ["self"]
    assert _parameters(uvicorn.Server.on_tick) == ["self", "counter"]
    assert _parameters(uvicorn.Server.handle_exit) == ["self", "sig", "frame"]
    assert _parameters(uvicorn.Server.run) == ["self", "sockets"]
    assert server.should_exit is False
    assert isinstance(server.server_state, ServerState)


def test_uvicorn_state_has_connections_tasks_and_headers() -> None:
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers) == (set(), set(), [])


def test_uvicorn_makes_connections_with_these_arguments() -> None:
    source = inspect.getsource(uvicorn.Server.startup)
    for argument in ("config=", "server_state=", "app_state=", "_loop="):
        assert argument in source
    config = uvicorn.Config(_application, lifespan="on")
    assert not config.loaded
    config.load()
    assert config.loaded
    assert config.loaded_app is not None
    assert isinstance(config.lifespan_class(config).state, dict)


def test_uvicorn_flow_control_pauses_and_resumes() -> None:
    flow = FlowControl(transport=asyncio.Transport())
    assert HIGH_WATER_LIMIT == 65_536
    flow.pause_writing()
    assert flow.write_paused
    flow.resume_writing()
    assert not flow.write_paused


def test_uvicorn_reads_addresses_from_a_transport() -> None:
    transport = asyncio.Transport({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.2", 2)})
    assert get_local_addr(transport) == ("127.0.0.1", 1)
    assert get_remote_addr(transport) == ("127.0.0.2", 2)
    assert not is_ssl(transport)
