"""What one caller has sent shows in no other caller's responses; rate limits count answered texts only."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tamis.settings import Settings
from tests.support.scorers import BAD, WatchedScorer, classifier_with
from tests.support.serving import client_of, make_app

_PROXY = ("10.0.0.1", 1)


async def _ask(client: httpx.AsyncClient, caller: str, text: str = "hello") -> bool:
    answer = await client.post("/prediction", json={"text": text}, headers={"x-forwarded-for": caller})
    return bool(answer.json()["from_cache"])


@pytest.mark.parametrize("is_shared", [False, True])
async def test_from_cache_is_of_the_callers_own_texts(is_shared: bool) -> None:
    scorer = WatchedScorer()
    app = make_app(Settings(trusted_proxies="10.0.0.1", share_cache=is_shared), classifier_with(scorer))
    async with client_of(app, peer=_PROXY) as client:
        assert not await _ask(client, "192.0.2.1")
        assert await _ask(client, "192.0.2.1")
        before = len(scorer.batches)
        assert await _ask(client, "192.0.2.2") is is_shared
        computed = len(scorer.batches) - before
        assert computed == (0 if is_shared else 1), "its time is that of a text never seen"
        assert await _ask(client, "192.0.2.2")


async def test_rate_limit_counts_only_texts_that_are_answered(tmp_path: Path) -> None:
    settings = Settings(rate_per_minute=1, rate_burst=3, rate_file=str(tmp_path / "rates.tamis"))
    async with client_of(make_app(settings, classifier_with(WatchedScorer()))) as client:
        for _ in range(5):
            assert (await client.post("/prediction", json={"text": BAD})).status_code == 500
            assert (await client.post("/prediction", json={"text": 3})).status_code == 422
            assert (await client.post("/predictions", json={"texts": []})).status_code == 422
        statuses = [(await client.post("/prediction", json={"text": "x"})).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
