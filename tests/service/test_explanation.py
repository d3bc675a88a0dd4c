"""`POST /explanation`: equal to `tamis explain`, logged and limited as a prediction is."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.inference.classifier import Classifier
from tamis.settings import Settings
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.scorers import GatedScorer, classifier_with
from tests.support.serving import client_of, make_app

Ask = Callable[..., httpx.Response]
TEXT = "WIN a FREE phone, call now"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "spam")


@pytest.mark.parametrize("label", [None, "ham"])
async def test_explanation_equals_the_commands_output(model: Path, label: str | None) -> None:
    chosen = [] if label is None else ["--label", label]
    command = tamis_command("explain", str(model), TEXT, "--json", *chosen)
    printed = await asyncio.to_thread(subprocess.check_output, command)
    async with client_of(make_app(classifier=Classifier.load(model))) as client:
        response = await client.post("/explanation", json={"text": TEXT, "label": label})
    assert response.status_code == 200
    assert response.json() == json.loads(printed)


@pytest.mark.parametrize("path", ["/models/spam", "/models/spam/versions/1"])
async def test_named_explanation_equals_that_of_the_default(model: Path, path: str) -> None:
    body = {"text": TEXT, "label": "ham"}
    async with client_of(make_app(classifier=Classifier.load(model))) as client:
        default = await client.post("/explanation", json=body)
        named = await client.post(f"{path}/explanation", json=body)
        unknown = await client.post("/models/other/explanation", json=body)
        wrong = await client.post(f"{path}/explanation", json=body | {"label": "other"})
    assert (named.status_code, named.json()) == (200, default.json())
    assert (unknown.status_code, wrong.status_code) == (404, 422)


async def test_explanation_logs_its_text_once(model: Path) -> None:
    async with client_of(make_app(classifier=Classifier.load(model))) as client:
        await client.post("/explanation", json={"text": TEXT})
        logged = (await client.get("/recent_log")).json()
    assert [call["input"] for call in logged] == [TEXT]


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=90))
def test_explanation_of_any_text_sums_to_its_logit(ask: Ask, text: str) -> None:
    found = ask("POST", "/explanation", json={"text": text}).json()
    total = found["base"] + sum(token[3] for token in found["tokens"]) + found["whole"]
    assert total == pytest.approx(found["logit"], abs=1e-9)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"text": "hello", "label": "secret\u202e"}, "unknown_label"),
        ({"text": "hello", "label": 3}, "wrong_type"),
        ({"label": "spam"}, "missing_field"),
        ({"text": "x" * 101}, "text_too_long"),
    ],
)
def test_explanation_of_invalid_fields_is_refused(ask: Ask, body: dict[str, Any], code: str) -> None:
    response = ask("POST", "/explanation", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert "secret" not in response.text


async def test_explanation_of_a_long_text_by_a_network_is_refused() -> None:
    app = make_app(Settings(max_text_chars=20_000), classifier_with(GatedScorer()))
    async with client_of(app) as client:
        response = await client.post("/explanation", json={"text": "a b " * 2_000})
        logged = (await client.get("/recent_log")).json()
    assert (response.status_code, response.json()["error"]["code"]) == (422, "text_too_long")
    assert logged == [], "it was refused before the model"


async def test_explanations_beyond_the_queue_are_overload() -> None:
    scorer = GatedScorer()
    async with client_of(make_app(classifier=classifier_with(scorer))) as client:
        scorer.gate.clear()
        asked = [
            asyncio.create_task(client.post("/explanation", json={"text": f"text {number}"}))
            for number in range(20)
        ]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        scorer.gate.set()
        statuses = sorted([response.status_code for response in await asyncio.gather(*asked)])
        again = await client.post("/explanation", json={"text": "afterwards"})
    assert all(task.result().json()["error"]["code"] == "overloaded" for task in done)
    assert statuses == [200] * 16 + [503] * 4
    assert again.status_code == 200, "those that ended make room"
