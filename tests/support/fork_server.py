"""`tamis serve` forked from a process that has loaded it already, as most tests start it.

The process is a real one, with its own memory, descriptors, signals and exit code; what is saved are the two
seconds of processor time that Python takes to import it. Tests about the start itself, about memory or about
several workers, which are programs of their own, start a program: `processes.serving`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.support.fork_server", "tamis.cli.serve", "tamis.service.app", "pytest"]
)


class ForkedServe:
    """What tests use of `subprocess.Popen`, for a process that runs `tamis serve`."""

    def __init__(self, arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], log: Path):
        self._process = _CONTEXT.Process(
            target=_serve, args=([*arguments], str(cwd), dict(environ), str(log))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of a `Popen`: negative if a signal ended the process."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("tamis serve", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(arguments: list[str], cwd: str, environ: dict[str, str], log: str) -> None:
    """Become `tamis serve` in the child: its folder, environment, standard output and error."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for target, path in ((1, os.devnull), (2, log)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, target)
        os.close(opened)
    sys.argv = ["tamis", "serve", *arguments]
    from tamis.cli import main

    main()
