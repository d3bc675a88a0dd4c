"""The systemd units, judged by systemd's own tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
ANALYZE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here: make tools")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The shipped units, with a program that exists here."""
    program = tmp_path / "tamis"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tamis "$@"\n')
    program.chmod(0o755)
    for name in ("tamis.service", "tamis.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/tamis/bin/tamis", str(program)))
    return [str(tmp_path / name) for name in ("tamis.service", "tamis.socket")]


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


def test_the_socket_is_the_one_that_nginx_asks() -> None:
    [address] = [
        line for line in (DEPLOY / "tamis.socket").read_text().splitlines() if "ListenStream" in line
    ]
    assert f"server {address.partition('=')[2]} " in (DEPLOY / "nginx.conf").read_text()
