"""`tamis new`: what it writes trains, predicts and serves without a change."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.support.processes import serving

TAMIS = str(Path(sys.executable).with_name("tamis"))


def tamis(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TAMIS, *arguments], cwd=folder, capture_output=True, text=True)


def make(target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TAMIS": TAMIS}
    return subprocess.run(["make", target], cwd=folder, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    ran = tamis("new", "my-project", folder=folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "make train" in ran.stdout
    return folder / "my-project"


def test_new_project_has_every_file_and_its_own_name(project: Path):
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert {"README.md", "Makefile", ".env", ".gitignore", "data/messages.csv"} <= files
    assert ".github/workflows/ci.yml" in files
    for file in files - {"data/messages.csv"}:
        assert "@@{" not in (project / file).read_text()
    rows = [*csv.DictReader((project / "data/messages.csv").read_text().splitlines())]
    assert Counter(row["label"] for row in rows) == {"delivery": 20, "billing": 20, "returns": 20}
    assert len({row["text"] for row in rows}) == 60


def test_new_project_runs_its_own_check_at_once(project: Path):
    ran = make("check", project)
    assert ran.returncode == 0, ran.stderr
    assert (project / "models/my-project/1/manifest.json").is_file()
    assert "Saved: models/my-project/1" in ran.stdout
    assert "delivery" in ran.stdout


def test_new_project_serves_what_its_env_names(project: Path):
    if not (project / "models").exists():
        assert make("train", project).returncode == 0
    with serving(project) as service, urllib.request.urlopen(f"{service.address}/") as answer:
        info = json.load(answer)
    assert (info["api_name"], info["model_name"]) == ("my-project", "my-project")


def test_new_refuses_a_folder_with_files_in_it(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    ran = tamis("new", "mine", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "tamis: mine exists and is not an empty folder; name another\n"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["my project", "-x.y", "räume"])
def test_new_refuses_a_name_that_no_model_can_have(tmp_path: Path, name: str):
    ran = tamis("new", "--", name, folder=tmp_path)
    assert ran.returncode == 2
    assert "cannot name a model" in ran.stderr
    assert list(tmp_path.iterdir()) == []
