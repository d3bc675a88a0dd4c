"""The systemd units, judged by systemd's own tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command

ANALYZE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here: make tools")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units that `tamis deploy` writes, with a program that exists here."""
    save_model(tmp_path / "models" / "spam")
    deploy(tmp_path, "systemd", "-o", ".")
    program = tmp_path / "tamis"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tamis "$@"\n')
    program.chmod(0o755)
    for name in ("tamis.service", "tamis.socket"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/tamis/bin/tamis", str(program)))
    return [str(tmp_path / name) for name in ("tamis.service", "tamis.socket")]


def deploy(folder: Path, *arguments: str) -> str:
    """Run `tamis deploy` in `folder`, and return what it prints."""
    command = tamis_command("deploy", *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def _analyze(*arguments: str, folder: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE
    return subprocess.run(
        [ANALYZE, *arguments],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_units_pass_systemds_own_check(units: list[str]) -> None:
    done = _analyze("verify", "--man=no", *units, folder=str(Path(units[0]).parent))
    ours = [line for line in done.stderr.splitlines() if "tamis" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_service_is_well_sandboxed(units: list[str]) -> None:
    done = _analyze(
        "security", "--offline=true", "--threshold=25", units[0], folder=str(Path(units[0]).parent)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_units_fit_the_model_and_can_be_reloaded(units: list[str]) -> None:
    text = Path(units[0]).read_text()
    assert "TAMIS_MODEL_DIRECTORY=/var/lib/tamis/models/spam\n" in text
    assert "ExecReload=/bin/kill -HUP $MAINPID\n" in text


def test_the_socket_is_the_one_that_nginx_asks(units: list[str], tmp_path: Path) -> None:
    [address] = [line for line in Path(units[1]).read_text().splitlines() if "ListenStream" in line]
    assert f"server {address.partition('=')[2]} " in deploy(tmp_path, "nginx")
