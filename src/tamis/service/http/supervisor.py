"""The supervisor: starts workers, replaces those that end or hang, and stops them.

All workers accept from one listening socket, which the parent holds open: what waits in its queue
survives the death of any worker. (With SO_REUSEPORT every worker would have a queue of its own, and
take it along.) The parent loads no model and answers no request.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from tamis.clock import Clock
from tamis.errors import TamisError
from tamis.service.http import LOST_ROWS_EXIT_CODE, SAME_SIGNAL_SECONDS
from tamis.service.http.sockets import Listeners
from tamis.service.http.worker import Message, WorkerConfig, WorkerProcess

_TICK_SECONDS = 0.2  # the precision of restarts and heartbeats
_OVERSLEPT_SECONDS = 0.5
"""If a wait takes this much longer, this process itself was stopped: missed heartbeats do not count."""

_MAX_FAILED_STARTS = 6  # then the service manager decides
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

_LATE_SECONDS = 5.0
"""How much longer than agreed a worker may take to stop before it is killed."""

_log = logging.getLogger(__name__)


class WorkerError(TamisError):
    """No worker can be started, or not every one of them ended in order.

    `is_reported` where the worker has said itself what is wrong, in one line.
    """

    def __init__(self, message: str, *, is_reported: bool = False):
        self.is_reported = is_reported
        super().__init__(message)


class Supervisor:
    """Keeps as many processes of `command` serving as the settings in `config` require."""

    def __init__(self, command: Sequence[str], config: WorkerConfig, *, listeners: Listeners, clock: Clock):
        self._command = command
        self._config = config
        self._settings = config.settings
        self._listeners = listeners
        self._clock = clock
        self._workers: list[WorkerProcess] = []
        self._is_started = False
        self._failed_starts = 0
        self._start_not_before = 0.0
        self._signals = 0
        self._signalled_at = 0.0
        self._is_orderly = True
        self._has_lost_rows = False
        self._reload_requested = False

    def run(
        self, *, on_start: Callable[[str], None], on_tick: Callable[[], None], on_stop: Callable[[], None]
    ) -> int:
        """Supervise until SIGTERM or SIGINT; `on_start` is called with what the first worker serves.

        Return the exit code: 0, or `LOST_ROWS_EXIT_CODE` if a worker ended with that. Raises WorkerError
        where the service cannot go on or did not end in order.
        """
        with self._signals_waking() as wake_up:
            try:
                while not self._signals:
                    self._start_missing_workers()
                    self._listen(wake_up)
                    self._replace_hung()
                    self._report_started(on_start)
                    self._deliver()
                    on_tick()
                on_stop()
                self._stop(wake_up)
                return LOST_ROWS_EXIT_CODE if self._has_lost_rows else 0
            finally:
                for worker in self._workers:  # none is left where all went well
                    worker.kill()

    def _start_missing_workers(self) -> None:
        """Start what is missing; the first worker goes alone, for what stops it would stop them all."""
        wanted = self._settings.workers if self._is_started else 1
        while len(self._workers) < wanted and self._clock.monotonic() >= self._start_not_before:
            if self._failed_starts and any(worker.served_models is None for worker in self._workers):
                return  # one at a time until one has succeeded
            now = self._clock.monotonic()
            self._workers.append(WorkerProcess(self._command, self._config, now=now))

    def _listen(self, wake_up: socket.socket) -> None:
        """Wait for a signal, a worker's message or its end, up to `_TICK_SECONDS`."""
        asleep_at = self._clock.monotonic()
        sources: list[socket.socket | WorkerProcess] = [wake_up, *self._workers]
        readable, _, _ = select.select(sources, [], [], _TICK_SECONDS)
        now = self._clock.monotonic()
        if now - asleep_at > _TICK_SECONDS + _OVERSLEPT_SECONDS:
            for worker in self._workers:
                worker.reset_heartbeat(now)
        for one in readable:
            if isinstance(one, socket.socket):
                one.recv(4_096)
            elif not one.poll(now):
                self._reap(one)

    def _deliver(self) -> None:
        """Pass messages of each worker to the others, and SIGHUP to all as a reload."""
        messages: list[tuple[WorkerProcess | None, Message]] = [
            (worker, message) for worker in self._workers for message in worker.messages
        ]
        for worker in self._workers:
            worker.messages.clear()
        if self._reload_requested:
            self._reload_requested = False
            self._config = replace(self._config, models=dict.fromkeys(self._config.models, ""))
            messages.append((None, Message("reload")))
            _log.info("received SIGHUP; reloading models")
        for sender, message in messages:
            for worker in self._workers:
                if worker is not sender:
                    worker.send(msgspec.json.encode(message) + b"\n")

    def _replace_hung(self) -> None:
        now = self._clock.monotonic()
        for worker in list(self._workers):
            if worker.is_hung(now, self._settings.worker_timeout_seconds):
                _log.error("worker %d missed its heartbeat; killing it", worker.pid)
                worker.kill()
                self._reap(worker)

    def _reap(self, worker: WorkerProcess) -> None:
        """Take a worker that has ended from the list; where it never served, the next one has to wait."""
        self._workers.remove(worker)
        code = worker.end()
        self._has_lost_rows |= code == LOST_ROWS_EXIT_CODE and worker.served_models is not None
        if self._signals:
            self._is_orderly &= worker.served_models is None or code in (0, LOST_ROWS_EXIT_CODE)
            return
        if worker.served_models is not None:
            _log.error("worker %d ended (%s); starting another", worker.pid, _ending(code))
            return
        self._failed_starts += 1
        if not self._is_started:
            raise WorkerError(
                f"the service cannot start; its first worker ended with {_ending(code)}",
                is_reported=code == 1,
            )
        if self._failed_starts >= _MAX_FAILED_STARTS and not self._workers:
            raise WorkerError(
                f"no worker can be started ({_ending(code)}, {self._failed_starts} times): "
                "see the lines above"
            )
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._failed_starts, _LONGEST_PAUSE_SECONDS)
        _log.error("a worker could not start (%s); retrying in %.1f s", _ending(code), pause)
        self._start_not_before = self._clock.monotonic() + pause

    def _report_started(self, on_start: Callable[[str], None]) -> None:
        serving = [worker.served_models for worker in self._workers if worker.served_models is not None]
        if serving and all(worker.served_models is not None for worker in self._workers):
            self._failed_starts, self._start_not_before = 0, 0.0
        if serving and not self._is_started:
            self._is_started = True
            on_start(serving[0])

    def _stop(self, wake_up: socket.socket) -> None:
        """Stop the workers: drain, refuse new connections, and wait until all have ended."""
        refuse_at = self._clock.monotonic() + self._settings.drain_seconds
        kill_at = refuse_at + self._settings.stop_seconds + _LATE_SECONDS
        for worker in self._workers:
            worker.terminate()
        while self._workers:
            self._listen(wake_up)
            now = self._clock.monotonic()
            if now >= refuse_at:
                self._listeners.refuse_new()
            if self._signals > 1 or now >= kill_at:
                raise WorkerError("shutdown took too long or a second stop signal came; workers were killed")
        if not self._is_orderly:
            raise WorkerError("a worker failed during shutdown; see the lines above")

    @contextmanager
    def _signals_waking(self) -> Iterator[socket.socket]:
        """Count SIGTERM and SIGINT; the socket becomes readable at each."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            before = {
                number: signal.signal(number, self._count) for number in (signal.SIGTERM, signal.SIGINT)
            }
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
                before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._request_reload)
            wake_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                yield ours
            finally:
                signal.set_wakeup_fd(wake_before)
                # after a stop signal this process ends: another signal must not cut off its last log lines
                for number, handler in [] if self._signals else before.items():
                    signal.signal(number, handler)

    def _request_reload(self, *_: object) -> None:
        self._reload_requested = True

    def _count(self, *_: object) -> None:
        now = self._clock.monotonic()
        if not self._signals or now - self._signalled_at >= SAME_SIGNAL_SECONDS:
            self._signals, self._signalled_at = self._signals + 1, now


def _ending(code: int) -> str:
    """Describe how a process ended."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
