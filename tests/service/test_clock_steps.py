"""The machine's clock is set back or forward an hour under a running service, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.settings import Settings
from tamis.storage import StoreOptions, make_store
from tests.support.fakes import ManualClock
from tests.support.serving import client_of, make_app

HOUR_SECONDS = 3_600


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("memory_rows", [0, 100])
async def test_clock_steps_keep_ids_answers_and_limits(tmp_path: Path, hours: int, memory_rows: int) -> None:
    clock = ManualClock()
    store = make_store(f"sqlite:///{tmp_path}/tamis.db", clock, StoreOptions(cache_seconds=600))
    settings = Settings(
        rate_per_minute=1,
        rate_burst=3,
        rate_file=str(tmp_path / "rates.tamis"),
        cache_memory_rows=memory_rows,
        cache_seconds=600,
    )
    async with client_of(make_app(settings, store=store, clock=clock)) as client:

        async def ask(text: str) -> tuple[int, bool | None]:
            answer = await client.get("/prediction", params={"text": text})
            return answer.status_code, answer.json().get("from_cache")

        assert [await ask("before"), await ask("before")] == [(200, False), (200, True)]
        clock.step_utc(hours * HOUR_SECONDS)
        assert await ask("before") == (200, True), "nothing has expired"
        assert (await ask("too much"))[0] == 429, "the limit has not opened"
        clock.advance(61)
        assert await ask("before") == (200, True), "nor has it locked"
        calls = (await client.get("/log", params={"order": "oldest"})).json()["calls"]
        assert [call["from_cache"] for call in calls] == [False, True, True, True]
        moments = [call["called_at"] for call in calls]
        assert moments == sorted(moments)
        assert len({call["id"] for call in calls}) == 4
        clock.advance(600)
        assert await ask("before") == (200, False), "when its time is over an answer does expire"
