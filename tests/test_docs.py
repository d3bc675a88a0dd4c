"""Every command in the documentation is run, page by page, each page in an empty folder.

A command is a line of a ```sh block, or a line that starts with `$ ` in a ```console block, which has output.
A server runs on until the next one or the end of the page, on a free port in place of 8000. The data sets
that `tamis fetch` would download are replaced by made-up messages; fetching itself is tested in tests/data.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference")]
)
_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NOT_HERE = ("git ", "make ", "pip ", "cd ", "sudo ", "tamis fetch", "python3 -m venv", ". .venv/", "docker ")
_SERVERS = ("tamis serve", "uvicorn ")


def commands_of(page: Path) -> list[str]:
    """Return the page's commands in order, those continued with a backslash in one."""
    return [
        line.removeprefix("$ ")
        for language, block in _BLOCK.findall(page.read_text("utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ") or (language == "sh" and line and not line.startswith("#"))
    ]


def needs_a_model(commands: list[str]) -> bool:
    """Return whether a command uses models/spam before one trains it."""
    uses = [command for command in commands if "models/spam" in command]
    return bool(uses) and not uses[0].startswith("tamis train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("sms-spam.csv", "spam-mixed.csv"):
        write_csv(messages(400), tmp_path / "data" / name)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `tamis` that is forked: tests/journeys runs the program that a wheel installs."""
    program = tmp_path_factory.mktemp("programs") / "tamis"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(tamis_command())} "$@"\n')
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    _stop(started)


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=lambda page: page.stem)
def test_page_commands_run_in_an_empty_folder(
    page: Path, folder: Path, programs: Path, free_port: int, servers: list[subprocess.Popen[str]]
):
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TAMIS_PORT": str(free_port),
        "UVICORN_PORT": str(free_port),
        "TAMIS_DRAIN_SECONDS": "0",
        "COLUMNS": "120",
    }
    commands = commands_of(page)
    if needs_a_model(commands):
        subprocess.run(
            ["tamis", "train", "data/sms-spam.csv", "-o", "models/spam"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
    for command in commands:
        if command.startswith(_NOT_HERE):
            continue
        local = command.replace("8000", str(free_port))
        if command.startswith(_SERVERS):
            _stop(servers)
            servers.append(_serve(local, folder, environment))
            continue
        run = subprocess.run(
            ["bash", "-c", local], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, f"$ {command}\n{run.stderr}"
        assert "Traceback" not in run.stderr


def test_pages_that_teach_have_commands():
    counts = {page.stem: len(commands_of(page)) for page in PAGES}
    assert all(counts[name] >= 3 for name in ("training", "artifact", "serving", "quickstart", "README")), (
        counts
    )


def test_shell_blocks_can_be_copied_without_a_prompt():
    for page in PAGES:
        shell = [block for language, block in _BLOCK.findall(page.read_text("utf-8")) if language == "sh"]
        assert not re.search(r"^\$ ", "\n".join(shell), re.MULTILINE), page


def _stop(servers: list[subprocess.Popen[str]]) -> None:
    while servers:
        with servers.pop() as server:
            server.terminate()


def _serve(command: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a server and wait for the line that says where it listens."""
    server = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "Stop" in line or "Uvicorn running" in line:
            return server
    raise AssertionError(f"$ {command}\n{''.join(said)}")
