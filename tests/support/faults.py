"""Real faults: what they need of the machine, and the process that holds a lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(5000)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@contextmanager
def needs_root_command(*command: str) -> Iterator[None]:
    """Skip where this user or this file system may not do what the fault needs."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command[:2])} is not allowed here: {done.stderr.strip()}")
    yield


@contextmanager
def disk_of_8_mb(folder: Path) -> Iterator[Path]:
    """Give a file system of its own at `folder`."""
    folder.mkdir()
    with needs_root_command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)):
        try:
            yield folder
        finally:  # pytest could not remove what a failed test leaves mounted
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file whose removal makes room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return filler


@contextmanager
def frozen(*files: Path) -> Iterator[None]:
    """Let nobody write to the files, root included, which chmod does not."""
    names = [str(file) for file in files]
    with needs_root_command("chattr", "+i", *names):
        try:
            yield
        finally:
            subprocess.run(["chattr", "-i", *(name for name in names if Path(name).exists())], check=True)


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    """Hold the SQLite file's lock in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            locker.communicate(b"\n")


@dataclass(frozen=True)
class SlowDisk:
    """A folder whose writes can be made slow, for processes that run with `environ`."""

    environ: dict[str, str]
    switch: Path

    def slow_down(self, milliseconds: int) -> None:
        """Let every write take that much longer from now on."""
        new = self.switch.with_suffix(".new")
        new.write_text(str(milliseconds))
        new.replace(self.switch)

    def recover(self) -> None:
        """Let writes be fast again."""
        self.switch.unlink()


def slow_disk(folder: Path, build: Path) -> SlowDisk:
    """Compile what makes writes below `folder` slow; skip without a C compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: scripts/tools.sh")
    library = build / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    switch = build / "slow_switch"
    environ = {"LD_PRELOAD": str(library), "SLOW_FOLDER": f"{folder}/", "SLOW_SWITCH": str(switch)}
    return SlowDisk(environ, switch)
