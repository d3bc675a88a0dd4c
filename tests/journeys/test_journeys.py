"""Four people's first day with Tamis, as scripts run from a wheel in an empty environment and folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.processes import ENVIRON
from tests.support.samples import messages, write_csv

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JOURNEYS = ["developer", "ml_engineer", "operator", "student"]
OTHER_PYTHONS = ["3.12", "3.13", "3.14"]


def find_python(version: str) -> str:
    """Return an interpreter of another version, from PATH or pyenv; skip the test without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} here")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run([sys.executable, "-m", *build], check=True)
    return next(folder.glob("*.whl"))


def install(python: Path, wheel: Path) -> None:
    """Install the wheel and what it needs to train into an environment; uv is only faster."""
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
    pinned = [*pip, "--require-hashes", "-r", ROOT / "requirements/train.txt"]
    run = subprocess.run(pinned, capture_output=True, text=True, check=False)
    if run.returncode and ("No matching distribution" in run.stderr or "onnect" in run.stderr):
        pytest.skip("no package index can be reached")
    assert run.returncode == 0, run.stderr
    subprocess.run([*pip, "--no-deps", wheel], check=True)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The programs of an environment that has nothing but the wheel and what training needs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install(folder / "bin/python", wheel)
    return folder / "bin"


def travel(journey: str, programs: Path, folder: Path) -> None:
    """Run a journey's script in `folder`, with a sample of messages at data/sms-spam.csv and mail.csv."""
    (folder / "data").mkdir()
    sample = write_csv(messages(400), folder / "data" / "sms-spam.csv")
    text = sample.read_text("utf-8").replace("label,text", "kind,note", 1)
    (folder / "mail.csv").write_text(text, "utf-8")
    script = (HERE / "prelude.sh").read_text() + (HERE / f"{journey}.sh").read_text()
    home = {"HOME": str(folder), "PATH": f"{programs}:/usr/bin:/bin", "COLUMNS": "80"}
    environ = {name: value for name, value in ENVIRON.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    run = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environ | home, capture_output=True, text=True, check=False
    )
    log = folder / "serve.log"
    assert run.returncode == 0, run.stdout + run.stderr + (log.read_text() if log.exists() else "")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("journey", JOURNEYS)
def test_journey_reaches_its_end(journey: str, environment: Path, tmp_path: Path):
    travel(journey, environment, tmp_path)


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_developer_journey_on_another_python(version: str, wheel: Path, tmp_path: Path):
    programs = tmp_path / "environment"
    subprocess.run([find_python(version), "-m", "venv", programs], check=True)
    install(programs / "bin/python", wheel)
    (tmp_path / "work").mkdir()
    travel("developer", programs / "bin", tmp_path / "work")
