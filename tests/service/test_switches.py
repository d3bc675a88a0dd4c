"""Aliases that move under load, and while workers and supervisors are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis import Classifier
from tamis.artifact import history, read_aliases, set_alias
from tests.support.artifacts import save_model
from tests.support.loads import request
from tests.support.process_stats import private_mb
from tests.support.processes import Service, read_response, serving, waiting_for

TEXTS = [f"WIN a FREE phone, text {number} now" for number in range(40)]
MODELS = ("spam", "mail", "chat")
CLIENTS = 16
GROWTH_MB = 8.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of two versions with different probabilities."""
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


@pytest.mark.parametrize("switches", [12, pytest.param(200, marks=pytest.mark.soak)])
async def test_switches_under_load_mix_no_versions(folder: Path, switches: int) -> None:
    """Move the aliases of three models under 16 clients: every answer is one version's own."""
    expected, done, answered = _expected(folder), asyncio.Event(), Counter[tuple[str, str]]()
    references = [f"models/{name}@champion" for name in MODELS]
    with serving(folder, *references, "--workers", "2") as service:
        asking = [
            asyncio.create_task(_ask_until(done, service.port, number, expected, answered))
            for number in range(CLIENTS)
        ]
        memory: list[float] = []
        await _until_logged(service, "started", 2, asking)
        for number in range(switches):
            name, target = MODELS[number % len(MODELS)], 2 - number // len(MODELS) % 2
            await asyncio.to_thread(set_alias, f"{folder}/models/{name}@{target}", "champion")
            await _until_logged(service, "model switched", 2 * (number + 1), asking)
            if number in (switches // 4, switches - 1):
                memory.append(sum(private_mb(pid) for pid in service.workers()))
        done.set()
        await asyncio.gather(*asking)
    assert {(name, version) for name in MODELS for version in ("1", "2")} == set(answered)
    print(  # noqa: T201 - the figures of `make soak`
        f"{switches} switches, {answered.total():,} answers, none wrong; two workers: {memory[0]:.1f} MB "
        f"after a quarter, {memory[1]:.1f} MB at the end"
    )
    assert memory[1] - memory[0] < 2 * GROWTH_MB


async def _until_logged(
    service: Service, event: str, times: int, asking: Sequence[asyncio.Task[None]]
) -> None:
    """Wait until both workers have logged what they do, while clients ask."""
    async with asyncio.timeout(60):
        while service.said.count(event) < times:
            assert not any(task.done() for task in asking), "a client has failed"
            await asyncio.sleep(0.005)


async def _ask_until(
    done: asyncio.Event, port: int, number: int, expected: Mapping[Any, Any], answered: Counter[Any]
) -> None:
    """Ask the three models in turn on one connection, every second time past the cache, and check."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for turn in count(number):
        if done.is_set():
            break
        name, text = MODELS[turn % len(MODELS)], TEXTS[turn * 7 % len(TEXTS)]
        body = {"text": text, "skip_cache": turn % 2 == 0}
        writer.write(request(body, path=f"/models/{name}/prediction"))
        status, _, content = await read_response(reader)
        answer = json.loads(content)
        assert status == 200, answer
        version = answer["model_version"]
        assert answer["prediction"] == expected[name, version, text]
        answered[name, version] += 1
    writer.close()


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
