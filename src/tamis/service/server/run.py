"""The two ways to serve: one process alone, or one of several under a parent."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable

from starlette.types import ASGIApp

from tamis.service.server import systemd
from tamis.service.server.channel import Assignment, Channel
from tamis.service.server.listening import Listeners
from tamis.service.server.server import Hooks, Server
from tamis.settings import Settings
from tamis.storage.io_time import LOOP_IO

_REPORT_SECONDS = 0.1
_MAX_IO_SECONDS = 30.0
"""A single wait for the disk that takes longer counts as a hang."""


def serve_alone(
    app: ASGIApp,
    settings: Settings,
    *,
    listeners: Listeners,
    notifier: systemd.Notifier,
    on_start: Callable[[], None],
) -> None:
    """Serve in this process until a signal; `on_start` is called once requests are taken."""

    def started() -> None:
        on_start()
        notifier.tell(systemd.READY)

    hooks = Hooks(
        on_start=started,
        on_tick=lambda: notifier.tell(systemd.ALIVE),
        on_stop=lambda: notifier.tell(systemd.STOPPING),
    )
    Server(app, settings, listeners=listeners, hooks=hooks).serve_until_told()


def serve_as_worker(app: ASGIApp, assignment: Assignment, *, channel: Channel, serves: str) -> None:
    """Serve until a signal or the parent's end; `serves` tells the parent what answers here."""

    def started() -> None:
        loop = asyncio.get_running_loop()

        def orphaned() -> None:
            loop.remove_reader(channel)
            server.stop()

        loop.add_reader(channel, orphaned)
        channel.introduce(serves)
        threading.Thread(target=_report_io, args=(channel,), name="tamis-heartbeat", daemon=True).start()

    hooks = Hooks(on_start=started, on_tick=channel.pulse, on_stop=lambda: None)
    settings = dataclasses.replace(assignment.settings, drain_seconds=assignment.drain_seconds)
    server = Server(app, settings, listeners=assignment.listeners(), hooks=hooks)
    server.serve_until_told()


def _report_io(channel: Channel) -> None:
    """Send a heartbeat for a loop that waits for its disk; one that hangs elsewhere stays silent."""
    pause, reported = threading.Event(), LOOP_IO.total
    while not pause.wait(_REPORT_SECONDS):
        total = LOOP_IO.total
        if total - reported >= _REPORT_SECONDS / 2 and LOOP_IO.current < _MAX_IO_SECONDS:
            channel.pulse()
        reported = total
