"""The bodies of every route, as the contract gives them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from starlette.types import ASGIApp

from tamis.artifact import OperatingPoint
from tamis.artifact.keras_import.convert import import_keras
from tamis.inference.classifier import Classifier
from tamis.settings import Settings
from tests.support.artifacts import save_model
from tests.support.fakes import ManualClock
from tests.support.keras_files import dense, embedding, lstm, write_old_model
from tests.support.serving import PEER, client_of, make_app, without_ids

Ask = Callable[..., httpx.Response]

WIN = {"ham": 0.25, "spam": 0.75}


def test_prediction_gives_the_contracts_body_when_posted(ask: Ask) -> None:
    response = ask("POST", "/prediction", json={"text": "win cash"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert UUID(body.pop("id")).version == 1
    assert body == {
        "input": None,
        "prediction": WIN,
        "top": {"label": "spam", "value": 0.75},
        "from_cache": False,
        "decision": "spam",
        "model_name": "keywords",
        "model_version": "3",
    }


def test_prediction_is_the_same_when_got_by_query(ask: Ask) -> None:
    posted = ask("POST", "/prediction", json={"text": "win cash", "echo_input": True, "skip_cache": True})
    got = ask("GET", "/prediction?text=win+cash&echo_input=true&skip_cache=1")
    assert without_ids(got.content) == without_ids(posted.content)
    assert got.json()["input"] == "win cash"


def test_predictions_keep_the_order_and_echo_by_default(ask: Ask) -> None:
    response = ask("POST", "/predictions", json={"texts": ["hello", "win cash", "hello"], "skip_cache": True})
    assert len({entry["id"] for entry in response.json()}) == 3
    body = json.loads(without_ids(response.content))
    assert [entry["input"] for entry in body] == ["hello", "win cash", "hello"]
    assert body[1]["prediction"] == WIN
    assert body[0] == body[2]


def test_predictions_hold_no_input_when_the_caller_asks_for_none(ask: Ask) -> None:
    body = ask("POST", "/predictions", json={"texts": ["a", "b"], "echo_input": False}).json()
    assert [entry["input"] for entry in body] == [None, None]


def test_a_text_gets_the_same_answer_alone_and_in_a_list(ask: Ask) -> None:
    alone = ask("POST", "/prediction", json={"text": "free", "echo_input": True, "skip_cache": True})
    listed = ask("POST", "/predictions", json={"texts": ["x y", "free"], "skip_cache": True})
    assert json.loads(without_ids(listed.content))[1] == json.loads(without_ids(alone.content))


@pytest.mark.parametrize("text", ["", "   ", "\x00", "é👍🏽\u202e", "x" * 100])
def test_any_text_within_the_limit_is_answered_by_post_and_get(ask: Ask, text: str) -> None:
    for response in [
        ask("POST", "/prediction", json={"text": text, "echo_input": True}),
        ask("GET", "/prediction", params={"text": text, "echo_input": "true"}),
    ]:
        assert response.status_code == 200
        assert response.json()["input"] == text


def test_service_info_names_the_caller_the_model_and_the_start() -> None:
    clock = ManualClock(utc_ns=1_795_300_713_209_512_000)
    app = make_app(Settings(api_name="Sieve"), clock=clock)
    info = _get(app, "/").json()
    started_at = info.pop("started_at")
    assert info == {
        "api_name": "Sieve",
        "caller_id": "192.0.2.7",
        "is_admin": False,
        "model_name": "keywords",
        "model_version": "3",
        "docs": "/docs",
        "page": "/ui",
        "status": "alive",
    }
    assert started_at.endswith("Z")
    assert datetime.fromisoformat(started_at).utcoffset() == timedelta(0)
    assert datetime.fromisoformat(started_at).timestamp() == 1_795_300_713.209512


def test_service_info_of_a_peer_without_address_names_the_socket() -> None:
    app = make_app()
    assert _get(app, "/", peer=None).json()["caller_id"] == "unix:"


def test_model_says_what_is_served(ask: Ask) -> None:
    assert ask("GET", "/model").json() == {
        "name": "keywords",
        "version": "3",
        "digest": "f" * 64,
        "kind": "mock",
        "labels": ["ham", "spam"],
        "operating_point": None,
        "metrics": {},
        "training": {},
        "network": None,
    }


def test_model_gives_the_manifest_without_its_files(tmp_path: Path) -> None:
    classifier = Classifier.load(save_model(tmp_path / "spam", training={"C": 4.0}).parent)
    info = _get(make_app(None, classifier), "/model").json()
    assert (info["name"], info["version"], info["digest"]) == ("spam", "1", classifier.identity)
    assert (info["kind"], info["labels"], info["training"]) == ("linear", ["ham", "spam"], {"C": 4.0})
    assert info["metrics"] == {"accuracy": {"value": 0.99}}
    assert info["operating_point"]["threshold"] == 0.9
    assert info["network"] is None
    assert str(tmp_path) not in str(info)


def test_model_of_a_network_gives_its_configuration(tmp_path: Path) -> None:
    old = write_old_model(tmp_path / "old", [embedding(), lstm(), dense()])
    path = import_keras(old, tmp_path / "spam")
    network = _get(make_app(None, Classifier.load(path)), "/model").json()["network"]
    assert network == json.loads((path / "network.json").read_bytes())
    assert [layer["class_name"] for layer in network["config"]["layers"]] == ["Embedding", "LSTM", "Dense"]


def test_decision_below_the_operating_point_differs_from_top(tmp_path: Path) -> None:
    cautious = OperatingPoint("spam", 0.999_999, 0.005, 0.9, 0.0, "out-of-fold answers")
    save_model(tmp_path / "spam", operating_point=cautious)
    app = make_app(None, Classifier.load(tmp_path / "spam"))
    answer = _get(app, "/prediction?text=WIN+a+FREE+voucher+now!").json()
    assert (answer["top"]["label"], answer["decision"]) == ("spam", "ham")


def test_health_says_why(ask: Ask) -> None:
    assert ask("GET", "/health/live").json() == {"status": "live", "reason": "the event loop answers"}
    ready = {"status": "ready", "reason": "model keywords@3 is loaded"}
    assert ask("GET", "/health/ready").json() == ready


def test_answers_may_not_be_stored_by_anyone_between(ask: Ask) -> None:
    assert ask("GET", "/prediction?text=x").headers["cache-control"] == "no-store"


def test_any_labels_are_served_when_they_are_more_than_two() -> None:
    labels = [f"label {number}" for number in range(40)]
    app = make_app(None, Classifier.mock(labels))
    body = _get(app, "/prediction?text=x").json()
    assert list(body["prediction"]) == labels
    assert body["top"]["value"] == max(body["prediction"].values())


def _get(app: ASGIApp, url: str, peer: tuple[str, int] | None = PEER) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client_of(app, peer=peer) as client:
            return await client.get(url)

    return asyncio.run(send())


def test_bodies_are_compact_json(ask: Ask) -> None:
    content = ask("GET", "/prediction?text=x").content
    assert content == json.dumps(json.loads(content), separators=(",", ":")).encode()
