"""Many models in one real service: routes, aliases that move while it serves, versions that are broken."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis import Classifier
from tamis.artifact import set_alias
from tamis.clock import SystemClock
from tamis.service.app import create_app
from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.settings import Settings
from tamis.storage import MemorySpool, ResilientStore, make_store
from tests.support.artifacts import save_model
from tests.support.processes import Service, serving, waiting_for
from tests.support.serving import client_of

TEXT = "WIN a FREE phone"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    save_model(folder / "spam")
    save_model(folder / "spam", operating_point=None)
    save_model(folder / "spam", metrics={"accuracy": {"value": 0.5}})
    save_model(folder / "topics", labels=("ham", "spam", "question"))
    return folder


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "models")
    set_alias(f"{tmp_path}/models/spam@1", "champion")
    return tmp_path / "models"


def _until(service: Service, holds: Callable[[], bool]) -> None:
    for _ in waiting_for(service.process):
        if holds():
            return
    raise AssertionError(service.said)


def _version(client: httpx.Client, path: str = "/prediction") -> str:
    answer = client.post(path, json={"text": TEXT, "skip_cache": True})
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model_version"]
    return version


@pytest.fixture
def client() -> Iterator[Callable[[Service], httpx.Client]]:
    opened: list[httpx.Client] = []

    def connect(service: Service) -> httpx.Client:
        opened.append(httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=30))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


Connect = Callable[[Service], httpx.Client]


def test_models_of_a_folder_have_their_own_routes(models: Path, tmp_path: Path, client: Connect) -> None:
    with serving(tmp_path, "models") as service:
        ask = client(service)
        assert [one["name"] for one in ask.get("/models").json()] == ["spam", "topics"]
        assert ask.post("/prediction", json={"text": TEXT}).json()["model_version"] == "3"
        topics = ask.post("/models/topics/prediction", json={"text": TEXT}).json()
        assert set(topics["prediction"]) == {"ham", "spam", "question"}
        for path, version in [("spam@champion", "1"), ("spam/versions/2", "2"), ("spam", "3")]:
            assert _version(ask, f"/models/{path}/prediction") == version
            listed = ask.post(f"/models/{path}/predictions", json={"texts": [TEXT, "hello"]}).json()
            assert [one["model_version"] for one in listed] == [version] * 2
            query = ask.get(f"/models/{path}/prediction", params={"text": TEXT}).json()
            assert query["model_version"] == version
        rows = ask.get("/log").json()["calls"]
        assert {(row["model_name"], row["model_version"]) for row in rows} == {
            ("spam", "3"), ("topics", "1"), ("spam", "1"), ("spam", "2"),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "field"),
    [("nothing", "model"), ("spam@stable", "alias"), ("spam/versions/9", "version"), ("a%2Fb", "not found")],
)
def test_unknown_models_are_404(models: Path, tmp_path: Path, client: Connect, path: str, field: str) -> None:
    with serving(tmp_path, "models") as service:
        answer = client(service).post(f"/models/{path}/prediction", json={"text": TEXT})
    assert answer.status_code == 404
    assert field in answer.text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_alias_moved_by_another_process_is_served_soon(
    models: Path, tmp_path: Path, client: Connect, workers: str
) -> None:
    with serving(tmp_path, "models/spam@champion", "--workers", workers) as service:
        ask = client(service)
        assert _version(ask) == "1"
        for version in ("2", "3", "1"):
            set_alias(f"{models}/spam@{version}", "champion")
            _until(service, lambda version=version: {_version(ask) for _ in range(8)} == {version})  # type: ignore[misc]
        assert ask.get("/").json()["model_version"] == "1"
        assert 'version="1"' in ask.get("/metrics").text


def test_newest_version_is_served_after_sighup(models: Path, tmp_path: Path, client: Connect) -> None:
    with serving(tmp_path, "models/spam", "--workers", "2") as service:
        ask = client(service)
        assert _version(ask) == "3"
        save_model(models / "spam")
        assert _version(ask) == "3"
        service.process.send_signal(signal.SIGHUP)
        _until(service, lambda: {_version(ask) for _ in range(8)} == {"4"})


def _change_manifest(version: Path, **changes: Any) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps(manifest | changes))


BROKEN: dict[str, Callable[[Path], object]] = {
    "weights changed": lambda version: (version / "weights.safetensors").write_bytes(b"x"),
    "weights missing": lambda version: (version / "weights.safetensors").unlink(),
    "manifest missing": lambda version: (version / "manifest.json").unlink(),
    "manifest cut": lambda version: (version / "manifest.json").write_text("{"),
    "manifest empty": lambda version: (version / "manifest.json").write_text(""),
    "labels swapped": lambda version: _change_manifest(version, labels=["spam", "ham"]),
    "label renamed": lambda version: _change_manifest(version, labels=["ham", "junk"]),
    "another format": lambda version: _change_manifest(version, format_version=99),
    "another kind": lambda version: _change_manifest(version, kind="magic"),
    "folder gone": shutil.rmtree,
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_version_is_refused_and_old_one_serves(
    models: Path, tmp_path: Path, client: Connect, how: str
) -> None:
    set_alias(f"{models}/spam@2", "next")  # records the digest of version 2
    with serving(tmp_path, "models/spam@champion") as service:
        ask = client(service)
        BROKEN[how](models / "spam" / "2")
        _point_champion_at(models / "spam", 2)
        _until(service, lambda: "version refused" in service.said)
        assert _version(ask) == "1"
        assert ask.get("/models").json()[0]["error"]
        assert "tamis_model_refusals_total 1" in ask.get("/metrics").text
        _point_champion_at(models / "spam", 3)
        _until(service, lambda: _version(ask) == "3")
        assert ask.get("/models").json()[0]["error"] is None


def _point_champion_at(model: Path, version: int) -> None:
    written = model.parent / "aliases.json"
    written.write_text(json.dumps({"champion": version}))
    written.replace(model / "aliases.json")  # half a file would be one more refusal


def test_model_that_cannot_be_loaded_is_503_on_its_routes(
    models: Path, tmp_path: Path, client: Connect
) -> None:
    (models / "topics" / "1" / "weights.safetensors").write_bytes(b"x")
    with serving(tmp_path, "models/spam", "models/topics") as service:
        ask = client(service)
        assert _version(ask) == "3"
        answer = ask.post("/models/topics/prediction", json={"text": TEXT})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
        assert "weights.safetensors" in ask.get("/models").json()[1]["error"]


def test_lazy_models_are_loaded_at_their_first_request(models: Path, tmp_path: Path, client: Connect) -> None:
    with serving(tmp_path, "models", TAMIS_LAZY_MODELS="true", TAMIS_MODELS_MAX_BYTES="1") as service:
        ask = client(service)
        assert ask.get("/models").json()[1]["version"] is None
        for _ in range(2):
            assert ask.post("/models/topics/prediction", json={"text": TEXT}).status_code == 200
            assert _version(ask, "/models/spam/versions/1/prediction") == "1"
            states = {one["version"]: one["state"] for one in ask.get("/models").json()[0]["versions"]}
            assert states == {"1": "loaded", "2": "on disk", "3": "served"}, "beyond the bound: unloaded"


def test_admin_moves_aliases_and_loads_versions(models: Path, tmp_path: Path, client: Connect) -> None:
    keys = {scope: new_key() for scope in ("admin", "predict")}
    for scope, key in keys.items():
        record = KeyRecord(scope, hash_of(key), [scope], datetime.now(UTC))
        KeyFile(models / "spam" / "keys.json").add(record)
    with serving(tmp_path, "models/spam@champion", "--workers", "2", TAMIS_REQUIRE_KEYS="true") as service:
        ask = client(service)
        path, body = "/models/spam/aliases/champion", {"version": "2", "reason": "measured better"}
        assert ask.put(path, json=body, headers={"x-api-key": keys["predict"]}).status_code == 403
        ask.headers["x-api-key"] = keys["admin"]
        moved = ask.put(path, json=body)
        assert moved.json()["aliases"]["champion"] == "2"
        _until(service, lambda: {_version(ask) for _ in range(8)} == {"2"})
        line = (models / "spam" / "history.jsonl").read_text().splitlines()[-1]
        assert json.loads(line)["who"] == "admin" and json.loads(line)["reason"] == "measured better"
        assert ask.put(path, json={"version": "9"}).status_code == 404
        assert ask.put("/models/spam/aliases/9", json={"version": "1"}).status_code == 422
        versions = "/models/spam/versions"
        assert ask.post(f"{versions}/3/load").status_code == 200
        assert ask.post(f"{versions}/3/unload").status_code == 200
        assert ask.post(f"{versions}/2/unload").status_code == 404, "it is being served"


def test_admin_routes_are_closed_without_keys(models: Path, tmp_path: Path, client: Connect) -> None:
    with serving(tmp_path, "models/spam") as service:
        answer = client(service).put("/models/spam/aliases/champion", json={"version": "2"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_admin")


def test_switches_under_load_lose_no_request(models: Path, tmp_path: Path, client: Connect) -> None:
    expected = {
        str(version): Classifier.load(f"{models}/spam@{version}").predict(TEXT).scores
        for version in (1, 2, 3)
    }
    stop: list[bool] = []

    def send(service: Service) -> int:
        ask, sent = client(service), 0
        while not stop:
            answer = ask.post("/prediction", json={"text": TEXT, "skip_cache": sent % 2 == 0})
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert body["prediction"] == expected[body["model_version"]]
            sent += 1
        return sent

    with (
        serving(tmp_path, "models/spam@champion", "--workers", "2") as service,
        ThreadPoolExecutor(4) as pool,
    ):
        sending = [pool.submit(send, service) for _ in range(4)]
        ask = client(service)
        for number in range(12):
            version = str(number % 3 + 1)
            set_alias(f"{models}/spam@{version}", "champion")
            _until(service, lambda version=version: {_version(ask) for _ in range(4)} == {version})  # type: ignore[misc]
        stop.append(True)
        assert sum(one.result() for one in sending) > 0


_FOLDER_EVENTS = {"os.listdir", "os.scandir"}
_LISTED: list[tuple[str, int]] = []
"""Folders that were listed, each with its thread; an audit hook lives until the process ends."""


@pytest.fixture
def listed() -> Iterator[list[tuple[str, int]]]:
    is_on = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if is_on and event in _FOLDER_EVENTS:
            _LISTED.append((str(arguments[0]), threading.get_ident()))

    _LISTED.clear()
    sys.addaudithook(hook)
    yield _LISTED
    is_on = False


async def test_model_folders_are_listed_off_the_event_loop(
    models: Path, listed: list[tuple[str, int]]
) -> None:
    store = ResilientStore(make_store("memory:", SystemClock()), MemorySpool(), SystemClock())
    app = create_app(Settings(), {str(models / "spam"): ""}, store=store)
    async with client_of(app) as ask:
        listed.clear()
        for path in ("/models", "/models/spam", "/models/spam/versions/2"):
            assert (await ask.get(path)).status_code == 200
        assert (await ask.post("/v2/repository/index", json={})).status_code == 200
    folders = [thread for folder, thread in listed if folder == str(models / "spam")]
    assert len(folders) >= 4
    assert threading.get_ident() not in folders
