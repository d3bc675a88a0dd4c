"""Signals that would end a process without a graceful shutdown."""

from __future__ import annotations

import logging
import signal

_log = logging.getLogger(__name__)


def handle_other_signals() -> None:
    """Treat SIGHUP as SIGTERM, unless it is ignored as under nohup; log SIGUSR1 and SIGUSR2 and go on."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _stop)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)


def _stop(number: int, frame: object) -> None:
    _log.info("received SIGHUP; stopping")
    signal.raise_signal(signal.SIGTERM)


def _ignore(number: int, frame: object) -> None:
    _log.warning("ignored signal %s", signal.Signals(number).name)
