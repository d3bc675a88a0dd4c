"""Unmodified clients of other servers against a real `tamis serve`, each in its own environment."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis import __version__
from tests.support.artifacts import save_model
from tests.support.processes import Service, serving

pytestmark = pytest.mark.clients

_ROOT = Path(__file__).parents[2]
_HOMES = _ROOT / "build" / "clients"
_DRIVERS = Path(__file__).parent / "drivers"
TEXTS = ["WIN a phone now! Text GO to 80080", "are you coming to the park?", "naïve café \U0001f35c", ""]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("clients")
    save_model(folder / "spam")
    with serving(folder, "spam", "--store", "memory:") as running:
        yield running


@pytest.mark.parametrize(
    "name",
    ["tritonclient", "kserve", "open-inference", "mlserver", "huggingface-hub", "mlflow-skinny", "openai"],
)
def test_client_gets_the_native_answers(service: Service, name: str) -> None:
    python = _HOMES / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{name} is not installed: make test-clients")
    driver = _DRIVERS / f"{name.replace('-', '_')}.py"
    # in a folder of its own: a driver may have the name of the package it drives
    _assert_native(service, _output([python, "-P", driver, service.address, json.dumps(TEXTS), __version__]))


def test_javascript_client_gets_the_native_answers(service: Service) -> None:
    node, modules = shutil.which("node"), _HOMES / "node" / "node_modules"
    if node is None or not modules.exists():
        pytest.skip("@huggingface/inference is not installed: make test-clients")
    driver = _HOMES / "node" / "huggingface_inference.mjs"
    driver.write_text((_DRIVERS / driver.name).read_text())
    texts = TEXTS[:3]  # the client refuses an empty one itself
    _assert_native(service, _output([node, driver, service.address, json.dumps(texts)]), texts)


def _output(command: list[Any]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads(done.stdout.splitlines()[-1])


def _assert_native(service: Service, found: Any, texts: list[str] = TEXTS) -> None:
    """`found` has the labels, and the scores in the order of the sorted labels."""
    native = httpx.post(f"{service.address}/predictions", json={"texts": texts}, timeout=30).json()
    labels, scores = found
    assert labels == [one["top"]["label"] for one in native]
    expected = [[one["prediction"][label] for label in sorted(one["prediction"])] for one in native]
    assert scores == [pytest.approx(row, abs=0) for row in expected]
