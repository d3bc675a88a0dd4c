"""The two ways to serve: in one process, or as one of several workers under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp

from tamis.clock import LOOP_IO
from tamis.service.http.server import Server, ServerHooks
from tamis.service.http.sockets import ALIVE, READY, STOPPING, Listeners, Notifier
from tamis.service.http.worker import WorkerChannel, WorkerConfig
from tamis.settings import Settings

Apply = Callable[..., Coroutine[Any, Any, None]]
"""Does what a message asks for: called with `reload`, or with `load` or `unload`, a model and a version."""

_REPORT_SECONDS = 0.1  # several in each heartbeat timeout, so that a late thread costs no worker
_MAX_IO_SECONDS = 30.0
"""A single wait for the disk that takes longer counts as a hang."""


def serve_alone(
    app: ASGIApp,
    settings: Settings,
    *,
    listeners: Listeners,
    notifier: Notifier,
    on_start: Callable[[], None],
    apply: Apply,
) -> None:
    """Serve in this process until a signal; call `on_start` when requests are accepted, `apply` at SIGHUP."""

    reloads: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only

    def reload() -> None:
        _log.info("received SIGHUP; reloading models")
        task = asyncio.get_running_loop().create_task(apply("reload"))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def started() -> None:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        on_start()
        notifier.send(READY)

    hooks = ServerHooks(
        on_start=started,
        on_tick=lambda: notifier.send(ALIVE),
        on_stop=lambda: notifier.send(STOPPING),
    )
    Server(app, settings, listeners=listeners, hooks=hooks).serve_until_stopped()


def serve_as_worker(
    app: ASGIApp, config: WorkerConfig, *, channel: WorkerChannel, served_models: str, apply: Apply
) -> None:
    """Serve until a signal or the supervisor's end; `served_models` is what the supervisor prints."""
    tasks: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only

    def started() -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            messages = channel.messages()
            if messages is None:  # the supervisor has ended
                loop.remove_reader(channel)
                server.stop()
                return
            for message in messages:
                task = loop.create_task(apply(message.action, message.model, message.version))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        loop.add_reader(channel, read)
        channel.report_ready(served_models)
        threading.Thread(target=_report_io, args=(channel,), name="tamis-heartbeat", daemon=True).start()

    hooks = ServerHooks(on_start=started, on_tick=channel.heartbeat, on_stop=lambda: None)
    settings = config.settings.model_copy(update={"drain_seconds": config.drain_seconds})
    server = Server(app, settings, listeners=config.listeners(), hooks=hooks)
    server.serve_until_stopped()


def _report_io(channel: WorkerChannel) -> None:
    """Send a heartbeat for a loop that waits for its disk; one that hangs elsewhere stays silent."""
    pause, reported = threading.Event(), LOOP_IO.total
    while not pause.wait(_REPORT_SECONDS):
        total = LOOP_IO.total
        # waiting for the disk at least half of the time: slow, but not hung
        if total - reported >= _REPORT_SECONDS / 2 and LOOP_IO.current < _MAX_IO_SECONDS:
            channel.heartbeat()
        reported = total


_log = logging.getLogger(__name__)


def handle_other_signals() -> None:
    """Log SIGUSR1 and SIGUSR2 and go on, and hold SIGHUP until the models can be reloaded.

    By default each of them would end the process.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _ignore)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)


def _ignore(number: int, frame: object) -> None:
    _log.warning("ignored signal %s", signal.Signals(number).name)
