"""Unmodified clients of other servers against a real `tamis serve`, each in its own environment."""

from __future__ import annotations

import json
import re
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
_DOCUMENTED = re.compile(r"^### (\S+)\n\n```(?:python|javascript)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON_CLIENTS = (
    "tritonclient",
    "kserve",
    "open-inference",
    "mlserver",
    "huggingface-hub",
    "mlflow-skinny",
    "openai",
)
JAVASCRIPT_CLIENT = "@huggingface/inference"
TEXTS = ["WIN a phone now! Text GO to 80080", "are you coming to the park?", "naïve café \U0001f35c", ""]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("clients")
    save_model(folder / "spam")
    with serving(folder, "spam", "--store", "memory:", is_program=True) as running:
        yield running


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
def test_client_gets_the_native_answers(service: Service, name: str) -> None:
    python = _python_of(name)
    driver = _DRIVERS / f"{name.replace('-', '_')}.py"
    # in a folder of its own: a driver may have the name of the package it drives
    _assert_native(service, _output([python, "-P", driver, service.address, json.dumps(TEXTS), __version__]))


def test_javascript_client_gets_the_native_answers(service: Service) -> None:
    node = _node()
    driver = _HOMES / "node" / "huggingface_inference.mjs"
    driver.write_text((_DRIVERS / driver.name).read_text())
    texts = TEXTS[:3]  # the client refuses an empty one itself
    _assert_native(service, _output([node, driver, service.address, json.dumps(texts)]), texts)


@pytest.mark.parametrize("name", [*PYTHON_CLIENTS, JAVASCRIPT_CLIENT])
def test_documented_lines_print_the_native_label(service: Service, tmp_path: Path, name: str) -> None:
    page = dict(_DOCUMENTED.findall((_ROOT / "docs" / "clients.md").read_text("utf-8")))
    port = service.address.rpartition(":")[2]
    if name == JAVASCRIPT_CLIENT:
        file, program = _HOMES / "node" / "documented.mjs", [_node()]
    else:
        file, program = tmp_path / "documented.py", [_python_of(name), "-P"]
    file.write_text(page[name].replace("8000", port), "utf-8")
    done = subprocess.run([*program, file], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    native = httpx.get(f"{service.address}/prediction", params={"text": "WIN a FREE phone"}).json()
    expected = str(native["decision"] == "spam") if name == "openai" else native["top"]["label"]
    assert done.stdout.strip() == expected


def _python_of(client: str) -> Path:
    """The interpreter of a client's own environment; skip without it."""
    python = _HOMES / client / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{client} is not installed: make test-clients")
    return python


def _node() -> str:
    """Node, where it and the client are installed; skip without them."""
    node = shutil.which("node")
    if node is None or not (_HOMES / "node" / "node_modules").exists():
        pytest.skip(f"{JAVASCRIPT_CLIENT} is not installed: make test-clients")
    return node


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
