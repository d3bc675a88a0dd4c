"""The examples run as a newcomer would run them."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.support.artifacts import save_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "minimal_api.py"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    save_model(tmp_path / "spam")
    monkeypatch.setenv("MODEL_DIRECTORY", str(tmp_path / "spam"))
    application: ASGIApp = runpy.run_path(str(EXAMPLE))["app"]
    return application


def test_minimal_api_answers_on_a_real_model(app: ASGIApp) -> None:
    win, lunch = "WIN a FREE holiday, text WIN to 080080080", "are you coming to the library on friday?"
    info = _ask(app, "GET", "/")
    one = _ask(app, "POST", "/prediction", json={"text": win})
    many = _ask(app, "POST", "/predictions", json={"texts": [lunch, win]})
    assert info.json() == {"model_name": "spam", "model_version": "1"}
    answer = one.json()
    assert answer["top"] == {"label": "spam", "value": answer["prediction"]["spam"]}
    assert [entry["top"]["label"] for entry in many.json()] == ["ham", "spam"]
    assert many.json()[1] == answer


@pytest.mark.parametrize("body", [b'{"text": "\\ud83d"}', b'{"text": NaN}', b"{", b"{}"])
def test_minimal_api_survives_what_it_cannot_echo(app: ASGIApp, body: bytes) -> None:
    response = _ask(app, "POST", "/prediction", content=body, headers={"content-type": "application/json"})
    assert response.status_code in {200, 422}


def test_minimal_api_is_under_forty_lines() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 40


def _ask(app: ASGIApp, method: str, path: str, **parts: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://example.test") as client:
            return await client.request(method, path, **parts)

    return asyncio.run(send())
