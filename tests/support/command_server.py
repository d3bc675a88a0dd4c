"""`tamis` commands forked from a process that has imported them already, for tests that run hundreds of them.

    ForkedCommand(["serve", …], …) ────────────────────────────► server ─► fork ─► tamis.__main__
    tamis_command("log", …) ─► this file as a small program ───►
                               with its descriptors, folder and environment

Each command is a real process with its own memory, descriptors, signals and exit code; what is saved is the
half to two seconds of processor time that Python takes to import it. The small program passes signals on
and ends as the command does; if it is killed, so is the command. Tests about imports, missing packages,
encodings, the hash seed, memory or several workers start programs of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

TYPE_CHECKING = False  # without the import, for this is a program that must start at once
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIBRARIES = ("tamis.service.app", "tamis.batch.local", "tamis.training.train", "apsw", "sklearn.svm")
_LENGTH_BYTES = 4
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MEASURES_COVERAGE = "COVERAGE_PROCESS_CONFIG" in os.environ
"""Lines that run in a fork would not be counted."""
_address = ""


def tamis_command(*arguments: object) -> list[str]:
    """Return a command line that runs `tamis` with these arguments."""
    words = [*map(str, arguments)]
    if MEASURES_COVERAGE:
        return [sys.executable, "-m", "tamis", *words]
    return [sys.executable, "-IS", __file__, _address or _start_server(), *words]


class ForkedCommand:
    """What tests use of `subprocess.Popen`, for a command that the server forks; its input is empty."""

    def __init__(
        self, words: Sequence[str], *, folder: str, environ: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._returncode: int | None = None
        with open(os.devnull) as empty:
            streams = [empty.fileno(), stdout, stderr]
            _request(self._server, words, folder=folder, environ=environ, descriptors=streams)
        self.pid = _number(self._server)

    @property
    def returncode(self) -> int | None:
        """As of a `Popen`: negative if a signal ended the process."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self._returncode is None and _is_readable(self._server, 0):
            self._returncode = _number(self._server)
            self._server.close()
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when there is one; raise TimeoutExpired after so many seconds."""
        if self._returncode is None and not _is_readable(self._server, timeout):
            import subprocess

            raise subprocess.TimeoutExpired("tamis", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on the way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self.send_signal(signal.SIGKILL)


def _is_readable(connection: socket.socket, seconds: float | None) -> bool:
    import select

    poll = select.poll()  # unlike `select`, for descriptors of any number
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1e3))


def _number(server: socket.socket) -> int:
    answer = server.recv(_LENGTH_BYTES, socket.MSG_WAITALL)
    if len(answer) < _LENGTH_BYTES:
        sys.exit("the command server ended before the command")
    return int.from_bytes(answer, "big", signed=True)


def _request(
    server: socket.socket,
    words: Sequence[str],
    *,
    folder: str,
    environ: Mapping[str, str],
    descriptors: Sequence[int],
    address: str = "",
) -> None:
    """Ask the server for a command; it answers with the number of the process, then with its exit status."""
    server.connect(address or _address or _start_server())
    variables = (f"{name}={value}" for name, value in environ.items())
    request = b"\0".join(map(os.fsencode, [folder, str(len(words)), *words, *variables]))
    socket.send_fds(server, [len(request).to_bytes(_LENGTH_BYTES, "big")], descriptors)
    server.sendall(request)


def _start_server() -> str:
    """Start this process's server, which ends with it, and return the path of its socket."""
    global _address
    import subprocess
    import tempfile

    _address = os.path.join(tempfile.mkdtemp(prefix="tamis-commands-"), "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(_address)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(listener.fileno()), _address],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl+C is the test run's to handle
        )
    import atexit

    atexit.register(_end, server)
    return _address


def _end(server: object) -> None:
    server.communicate()  # type: ignore[attr-defined]  # closes its standard input, and waits


def _run_command(address: str, words: list[str]) -> None:
    """Have the server run a command with this process's descriptors, and end as it does."""
    with socket.socket(socket.AF_UNIX) as server:
        _request(
            server, words, folder=os.getcwd(), environ=os.environ, descriptors=[0, 1, 2], address=address
        )
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        _number(server)  # of its process
        status = _number(server)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


class _Server:
    """Forks a process for each connection and reports its exit status; ends when its standard input does."""

    def __init__(self, listener: socket.socket):
        import selectors

        self._listener, self._selector = listener, selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    return
                if self._selector.get_map().get(key.fd) is key:  # not ended by what came before it
                    key.data()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        head, descriptors, _, _ = socket.recv_fds(client, _LENGTH_BYTES, 3)
        length = int.from_bytes(head, "big")
        request = client.recv(length, socket.MSG_WAITALL)
        if not head or len(request) < length:  # its client was killed
            client.close()
            for descriptor in descriptors:
                os.close(descriptor)
            return
        # a signal that arrived within the fork would be lost
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        pid = os.fork()
        if not pid:
            for held in (client, self._listener, self._selector):
                held.close()
            _become_command(request, descriptors)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        for descriptor in descriptors:
            os.close(descriptor)
        self._answer(client, pid)
        ended = os.pidfd_open(pid)
        self._selector.register(ended, 1, lambda: self._report(client, pid, ended))
        self._selector.register(client, 1, lambda: self._pass_on(client, pid))

    def _report(self, client: socket.socket, pid: int, ended: int) -> None:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        for watched in (ended, client):
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        os.close(ended)
        self._answer(client, code)
        client.close()

    def _answer(self, client: socket.socket, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed, and the command with it
            client.sendall(number.to_bytes(_LENGTH_BYTES, "big", signed=True))

    def _pass_on(self, client: socket.socket, pid: int) -> None:
        numbers = client.recv(16)
        if not numbers:
            self._selector.unregister(client)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)


def _become_command(request: bytes, descriptors: list[int]) -> None:
    """Run `python -m tamis` in this fork: its descriptors, folder, environment and arguments."""
    import atexit
    import runpy
    import threading
    import traceback

    folder, count, *rest = map(os.fsdecode, request.split(b"\0"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(one.split("=", 1) for one in rest[int(count) :])
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    errors = "surrogateescape" if os.environ.get("PYTHONUTF8") == "1" else sys.stdout.errors
    sys.stdin = open(0, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - for all of its life
    sys.stdout = open(1, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["tamis", *rest[: int(count)]]
    code: object = 0
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        runpy.run_module("tamis", run_name="__main__", alter_sys=True)
    except SystemExit as done:
        code = done.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _main() -> None:
    if sys.argv[1] != "--serve":
        _run_command(sys.argv[1], sys.argv[2:])
    import gc
    import importlib
    import shutil

    del sys.path[0]  # this folder, whose modules are not to be found as any others
    commands = importlib.import_module("tamis.cli").COMMANDS
    for name in [*_LIBRARIES, *(f"tamis.cli.{name.replace('-', '_')}" for name in commands)]:
        with contextlib.suppress(ModuleNotFoundError):  # import-keras is in another one
            importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy the memory of all these
    with socket.socket(fileno=int(sys.argv[2])) as listener:
        _Server(listener).serve()
    shutil.rmtree(os.path.dirname(sys.argv[3]))


if __name__ == "__main__":
    _main()
