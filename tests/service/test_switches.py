"""Aliases that move while workers and supervisors are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis import Classifier
from tamis.artifact import history, read_aliases, set_alias
from tests.support.artifacts import save_model
from tests.support.processes import serving, waiting_for

TEXTS = [f"WIN a FREE phone, text {number} now" for number in range(40)]
MODELS = ("spam",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two versions with different probabilities."""
    folder = tmp_path_factory.mktemp("made")
    for name in MODELS:
        save_model(folder / name)
        save_model(folder / name)
        _mirror(folder / name / "2")
    return folder


def _mirror(version: Path) -> None:
    """Give each label the probability of another: the answers of the two versions cannot be mixed up."""
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["labels"].reverse()
    (version / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "models")
    for name in MODELS:
        set_alias(f"{tmp_path}/models/{name}@1", "champion")
    return tmp_path


def _expected(folder: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """Return each version's own answers, by model, version and text."""
    found = {}
    for name in MODELS:
        for version in ("1", "2"):
            classifier = Classifier.load(folder / "models" / name / version)
            answers = zip(TEXTS, classifier.predict_many(TEXTS), strict=True)
            found.update({(name, version, text): dict(answer.scores) for text, answer in answers})
    return found


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
async def test_kill_during_a_switch_leaves_whole_versions(folder: Path, victim: str) -> None:
    """After a kill while an alias moves, the file is intact and one whole version answers."""
    expected = _expected(folder)
    for attempt in range(2):
        with serving(folder, "models/spam@champion", "--workers", "2") as service:
            target = 2 - attempt % 2
            pids = [service.process.pid] if victim == "supervisor" else [*service.workers()]
            moving = asyncio.create_task(
                asyncio.to_thread(set_alias, f"{folder}/models/spam@{target}", "champion")
            )
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await moving
            assert read_aliases(folder / "models" / "spam") == {"champion": target}
            if victim == "worker":
                _until_served(service.address, service.process, str(target))
        with serving(folder, "models/spam@champion", "--workers", "2") as service:
            for text in TEXTS[:8]:
                answer = httpx.post(f"{service.address}/prediction", json={"text": text}, timeout=60).json()
                assert answer["model_version"] == str(target)
                assert answer["prediction"] == expected["spam", str(target), text]
    assert len(history(folder / "models" / "spam")) == 3


def _until_served(address: str, process: Any, version: str) -> None:
    for _ in waiting_for(process):
        try:
            answers = [httpx.post(f"{address}/prediction", json={"text": TEXTS[0]}) for _ in range(6)]
        except httpx.TransportError:
            continue
        if {one.json().get("model_version") for one in answers} == {version}:
            return
    raise AssertionError("the service has ended")
