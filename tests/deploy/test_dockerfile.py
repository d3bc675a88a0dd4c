"""The Dockerfile's steps, run in a clean folder in place of an image: no container engine is needed.

Paths of the image lie below the test's folder; users and packages of the system are left out.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON

ROOT = Path(__file__).parents[2]
_OF_THE_IMAGE = ("/opt/tamis", "/models", "/var/lib/tamis", "/build")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context: the model, the written files, and the project's wheel with those it needs."""
    folder = tmp_path_factory.mktemp("context")
    save_model(folder / "models" / "spam")
    deploy = tamis_command("deploy", "docker", "-o", ".")
    subprocess.run(deploy, cwd=folder, check=True, capture_output=True)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "wheels",
        ROOT,
    ]
    subprocess.run(build, cwd=folder, check=True)
    return folder


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Return instructions with their arguments, continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def inside(text: str, image: Path) -> str:
    """Return text with the image's paths moved below `image`."""
    return re.sub(rf"(?<!\w)(?:{'|'.join(_OF_THE_IMAGE)})(?![\w-])", lambda path: f"{image}{path[0]}", text)


@dataclass
class Image:
    """What the instructions leave behind: files below `root`, environment, commands."""

    root: Path
    context: Path
    environ: dict[str, str]
    work: Path = Path()
    commands: dict[str, list[str]] = field(default_factory=dict)

    def follow(self, word: str, rest: str) -> None:
        """Carry out one instruction; FROM, VOLUME and EXPOSE leave nothing to do here."""
        moved = inside(rest, self.root)
        if word == "ARG":
            name, _, value = moved.partition("=")
            self.environ[name] = value.strip('"')
        elif word == "ENV":
            self.environ |= dict(pair.split("=", 1) for pair in shlex.split(moved))
        elif word == "WORKDIR":
            self.work = Path(moved)
        elif word == "COPY" and not rest.startswith("--from"):
            _copy(rest.split(), self.context, self.root, self.work)
        elif word == "RUN" and not rest.startswith("groupadd"):
            _run(moved, self.work, self.environ)
        elif word in {"ENTRYPOINT", "CMD", "HEALTHCHECK"}:
            self.commands[word] = json.loads(moved[moved.index("[") :])


def test_steps_of_the_dockerfile_give_a_healthy_service(context: Path, tmp_path: Path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    image = Image(tmp_path / "image", context, {**ENVIRON, "PATH": path})
    for folder in _OF_THE_IMAGE:
        (image.root / folder[1:]).mkdir(parents=True)
    instructions = steps(context / "Dockerfile")
    assert int(dict(instructions)["USER"].partition(":")[0]) >= 10_000
    for word, rest in instructions:
        image.follow(word, rest)
    serve = image.commands["ENTRYPOINT"] + image.commands["CMD"]
    _is_healthy(serve, image.commands["HEALTHCHECK"], image.work, image.environ)


def _copy(words: list[str], context: Path, image: Path, work: Path) -> None:
    *sources, target = words
    to = image / target.lstrip("/") if target.startswith("/") else work / target
    for pattern in sources:
        for source in context.glob(pattern):
            if source.is_dir():
                shutil.copytree(source, to, dirs_exist_ok=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, to)


def _run(line: str, work: Path, environ: dict[str, str]) -> None:
    run = subprocess.run(
        ["sh", "-c", line], cwd=work, env=environ, capture_output=True, text=True, check=False
    )
    if "No matching distribution" in run.stderr or "ConnectionError" in run.stderr:
        pytest.skip("no package index can be reached")
    assert run.returncode == 0, f"{line}\n{run.stderr}"


def _address(lines: Iterable[str]) -> str:
    said = []
    for line in lines:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("".join(said))


def _is_healthy(command: list[str], health: list[str], work: Path, environ: dict[str, str]) -> None:
    """Serve as the image does, on a free port, until the health check passes; write only below the volume."""
    local = environ | {"TAMIS_HOST": "127.0.0.1", "TAMIS_PORT": "0", "TAMIS_WORKERS": "1"}
    with subprocess.Popen(command, cwd=work, env=local, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        try:
            address = _address(service.stderr)
            check = [part.replace("http://127.0.0.1:8000", address) for part in health]
            deadline = time.monotonic() + 30
            while subprocess.run(check, env=local, check=False, capture_output=True).returncode:
                assert time.monotonic() < deadline
            answer = httpx.post(f"{address}/prediction", json={"text": "WIN a camera now"}).json()
            assert answer["top"]["label"] == "spam"
        finally:
            service.terminate()
    assert (work / "tamis.db").exists()
