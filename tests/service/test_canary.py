"""Canary and shadow in a real service, set by `tamis models` while it serves."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis.artifact import history
from tamis.artifact.traffic import TrafficPlan, read_traffic
from tamis.clock import SystemClock
from tamis.events import Events
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ModelLoader
from tamis.inference.shadow import ModelTraffic, Traffic, TrafficSide
from tamis.inference.traffic_counts import TrafficCounts
from tamis.service.api.predictor import Predictor
from tamis.service.classify import ClassifyService
from tamis.service.prediction_cache import LayeredPredictionCache
from tamis.service.security.client_identity import Caller
from tamis.storage.memory import MemoryStore
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.loads import request
from tests.support.metrics_page import value
from tests.support.processes import Service, read_response, serving, waiting_for
from tests.support.scorers import GatedScorer, WatchedScorer, classifier_with

CLOCK = SystemClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "spam")
    manifest = save_model(tmp_path / "spam") / "manifest.json"
    described = json.loads(manifest.read_text())
    described["labels"].reverse()  # wrong on purpose: each label has the other's probability
    manifest.write_text(json.dumps(described))
    return tmp_path


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    proxies = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1"}
    with serving(folder, "spam@1", "--workers", "2", **proxies) as running:
        yield running


def _models(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = tamis_command("models", *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _ask(service: Service, caller: int, *, path: str = "/prediction") -> str:
    """Ask on a new connection, which either worker may take, and return the version that answered."""
    headers = {"x-forwarded-for": f"192.0.2.{caller}"}
    body = {"text": f"WIN a FREE phone, caller {caller}"}
    answer = httpx.post(f"{service.address}{path}", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model_version"]
    return version


def _infer(service: Service, caller: int, *, path: str = "/v2/models/spam/infer") -> str:
    """Ask in the wire format of the Open Inference Protocol."""
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"a call of {caller}"]}
    headers = {"x-forwarded-for": f"192.0.2.{caller}"}
    answer = httpx.post(f"{service.address}{path}", json={"inputs": [text]}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model_version"]
    return version


def _until(service: Service, holds: Callable[[], bool]) -> None:
    for _ in waiting_for(service.process):
        if holds():
            return
    raise AssertionError(service.said)


def test_canary_keeps_each_caller_on_one_side(folder: Path, service: Service) -> None:
    assert _models(folder, "canary", "spam@2", "--share", "50%").returncode == 0
    _until(service, lambda: service.said.count("traffic changed") == 2)
    sides = [_ask(service, caller) for caller in range(60)]
    canary = read_traffic(folder / "spam").canary
    assert canary is not None
    assert sides == ["2" if canary.takes(f"192.0.2.{caller}") else "1" for caller in range(60)]
    assert set(sides) == {"1", "2"}
    for path in ("/models/spam/versions/1/prediction", "/models/spam/versions/2/prediction"):
        assert {_ask(service, caller, path=path) for caller in range(8)} == {path.split("/")[4]}
    assert [_ask(service, caller, path="/models/spam/prediction") for caller in range(60)] == sides
    assert [_infer(service, caller) for caller in range(60)] == sides
    assert {_infer(service, caller, path="/v2/models/spam/versions/1/infer") for caller in range(8)} == {"1"}
    _check_sides(service, sides)
    assert _models(folder, "canary", "spam", "--off").returncode == 0
    _until(service, lambda: service.said.count("traffic changed") == 4)
    assert {_ask(service, caller) for caller in range(60)} == {"1"}
    told = [(one.action, one.alias, one.to_version, one.reason) for one in history(folder / "spam")]
    assert told == [("canary", "", 2, "share 0.5"), ("stop canary", "", 2, "")]
    assert "canary 2  share 0.5" in _models(folder, "history", "spam").stdout


def _check_sides(service: Service, sides: Sequence[str]) -> None:
    """Give feedback to both sides; whichever worker answers shows what both have counted of all requests."""
    for caller in (sides.index("1"), sides.index("2")):
        own = {"x-forwarded-for": f"192.0.2.{caller}"}
        answer = httpx.post(f"{service.address}/prediction", json={"text": "WIN"}, headers=own).json()
        truth = {"prediction_id": answer["id"], "label": answer["top"]["label"]}
        assert httpx.post(f"{service.address}/feedback", json=truth, headers=own).status_code == 201
    requests = {
        # by /prediction, /models/spam/prediction and /v2, once more above, and by /versions/ of the two
        "served": 3 * sides.count("1") + 1 + 16,
        "canary": 3 * sides.count("2") + 1 + 8,
    }
    found: dict[str, Any] = {}

    def is_all_counted() -> bool:
        found.update(httpx.get(f"{service.address}/models/spam").json()["traffic"]["canary"]["sides"])
        return all(one["feedback"] and one["requests"] == requests[side] for side, one in found.items())

    _until(service, is_all_counted)
    for side, version in (("served", "1"), ("canary", "2")):
        assert found[side]["version"] == version and found[side]["errors"]["high"] < 0.2
        assert sum(one["count"] for one in found[side]["labels"].values()) == requests[side]
        assert found[side]["feedback"]["accuracy"] == 1.0
        labels = {"model": "spam", "version": version, "side": side, "result": "answered"}

        def is_on_the_page(labels: dict[str, str] = labels, expected: int = requests[side]) -> bool:
            # another worker may answer, which reads the sum a little later
            page = httpx.get(f"{service.address}/metrics").text
            return value(page, "tamis_canary_requests_total", **labels) == expected

        _until(service, is_on_the_page)


@pytest.mark.parametrize("callers", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_canary_of_10_percent_of_many_callers(folder: Path, service: Service, callers: int) -> None:
    """Every caller asks, some again, on connections to both workers; then the wrong version is stopped."""
    assert _models(folder, "canary", "spam@2", "--share", "10%").returncode == 0
    _until(service, lambda: service.said.count("traffic changed") == 2)
    first = await _versions_of_callers(service, range(callers), connections=8)
    again = await _versions_of_callers(service, range(0, callers, 5), connections=6)
    assert again == first[::5]
    canary = read_traffic(folder / "spam").canary
    assert canary is not None
    assert first == ["2" if canary.takes(_address(caller)) else "1" for caller in range(callers)]
    deviation = (callers * 0.1 * 0.9) ** 0.5
    assert abs(first.count("2") - callers * 0.1) < 5 * deviation, "five deviations: one key in a million"
    bounded = ("--share", "10%", "--abort-if", "disagreement>20%")
    assert _models(folder, "canary", "spam@2", *bounded).returncode == 0
    _until(service, lambda: service.said.count("traffic changed") == 4)
    while read_traffic(folder / "spam").canary is not None:
        await _versions_of_callers(service, range(500), connections=8)
    assert read_traffic(folder / "spam").stopped.startswith("disagreement: ")
    _until(service, lambda: service.said.count("traffic changed") == 6)
    assert set(await _versions_of_callers(service, range(500), connections=8)) == {"1"}


def _address(caller: int) -> str:
    return str(IPv4Address("10.0.0.0") + caller)


async def _versions_of_callers(service: Service, callers: range, *, connections: int) -> list[str]:
    """Ask once for every caller, as a trusted proxy does, and return the versions that answered."""
    waiting, versions = iter(callers), dict[int, str]()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for caller in waiting:
            writer.write(request({"text": f"WIN a FREE phone {caller % 50}"}, caller=_address(caller)))
            status, _, body = await read_response(reader)
            assert status == 200, body
            versions[caller] = json.loads(body)["model_version"]
        writer.close()

    await asyncio.gather(*(ask() for _ in range(connections)))
    return [versions[caller] for caller in callers]


def test_canary_that_disagrees_is_aborted(folder: Path, service: Service) -> None:
    done = _models(folder, "canary", "spam@2", "--share", "100%", "--abort-if", "disagreement>20%")
    assert done.returncode == 0, done.stderr
    _until(service, lambda: service.said.count("traffic changed") == 2)

    def is_aborted() -> bool:
        for caller in range(20):
            _ask(service, caller)
        return read_traffic(folder / "spam").canary is None

    _until(service, is_aborted)
    assert read_traffic(folder / "spam").stopped.startswith("disagreement: ")
    _until(service, lambda: service.said.count("traffic changed") == 4)
    assert {_ask(service, caller) for caller in range(40)} == {"1"}, "both workers are back"
    assert "canary aborted" in service.said
    last = history(folder / "spam")[-1]
    assert (last.action, last.actor) == ("stop canary", "tamis serve") and "disagreement" in last.reason


def test_shadow_answers_nobody_and_is_counted(folder: Path, service: Service) -> None:
    assert _models(folder, "shadow", "spam@2").returncode == 0
    _until(service, lambda: service.said.count("traffic changed") == 2)
    assert {_ask(service, caller) for caller in range(40)} == {"1"}

    def compared() -> float:
        page = httpx.get(f"{service.address}/metrics").text
        results = ("agreed", "disagreed", "dropped", "failed")
        return sum(value(page, "tamis_comparisons_total", result=result, **labels) for result in results)

    labels = {"model": "spam", "version": "2", "role": "shadow"}
    _until(service, lambda: compared() == 40)
    page = httpx.get(f"{service.address}/metrics").text
    assert value(page, "tamis_comparisons_total", result="disagreed", **labels) > 0
    shadow = httpx.get(f"{service.address}/models/spam").json()["traffic"]["shadow"]
    assert shadow["version"] == "2" and shadow["comparisons"]["disagreement"]["low"] > 0
    assert "shadow disagreed" in service.said
    assert "WIN a FREE" not in service.said, "no text is in the service's log"


async def test_shadow_that_hangs_delays_no_answer(tmp_path: Path) -> None:
    """A shadow that never ends its first text: every request is answered, what it cannot take is dropped."""
    events, hanging, store = Events(), GatedScorer(), MemoryStore(CLOCK)
    loader = ModelLoader(CLOCK, 5.0, events)
    pool = ModelPool(loader)
    pool.add_classifier(classifier_with(WatchedScorer()))
    traffic = Traffic(pool, CLOCK)
    counts = TrafficCounts(tmp_path / "shadow.counts", ["ham", "spam"])
    shadow = TrafficSide(loader.serve(classifier_with(hanging)), counts)
    traffic.models["watched"] = ModelTraffic(Path("watched"), TrafficPlan(shadow=2), shadow=shadow)
    cache = LayeredPredictionCache(store.cache, CLOCK, memory_rows=0, events=events)
    classification = ClassifyService(store, CLOCK, cache=cache, events=events)
    predictor = Predictor(pool, classification, limiter=None, traffic=traffic)
    await store.open()
    hanging.gate.clear()
    for number in range(600):
        caller = Caller(f"192.0.2.{number % 250}", "")
        await predictor.one(f"text {number}", caller, echo_input=False, skip_cache=True)
    await counts.flush()
    assert 600 - 256 - 1 <= counts.results["dropped"] <= 600 - 256, "256 are queued, one may be scored"
    assert sum(counts.results.values()) == counts.results["dropped"], "the shadow has not ended one"
    hanging.gate.set()
    await traffic.close()
    await classification.finish()


@pytest.mark.parametrize(
    "arguments",
    [
        ("canary", "spam", "--share", "10%"),
        ("canary", "spam@2", "--share", "101%"),
        ("canary", "spam@2", "--share", "10%", "--abort-if", "latency>3"),
        ("canary", "spam@2"),
        ("shadow", "spam"),
    ],
)
def test_wrong_arguments_are_a_usage_error(folder: Path, arguments: tuple[str, ...]) -> None:
    done = _models(folder, *arguments)
    assert done.returncode == 2 and "Error" in done.stderr
    assert not (folder / "spam" / "traffic.json").exists()


def test_canary_of_a_missing_version_is_refused(folder: Path) -> None:
    done = _models(folder, "canary", "spam@7", "--share", "10%")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert not (folder / "spam" / "traffic.json").exists()
