"""The call log in the whole application: what is predicted is logged, and shown to its caller only."""

from __future__ import annotations

import httpx

from tamis.settings import Settings
from tamis.storage import LogQuery, make_store
from tests.support.fakes import ManualClock
from tests.support.logbook import NOON
from tests.support.serving import client_of, make_app, started

ALICE, BOB = ("192.0.2.7", 5000), ("192.0.2.8", 5000)
SECRET = "alice alone knows"
DAY_SECONDS = 86_400


async def test_each_text_of_each_call_is_logged_once_in_order() -> None:
    async with client_of(make_app(clock=ManualClock(NOON))) as http:
        await http.post("/prediction", json={"text": "one"})
        await http.get("/prediction?text=two")
        await http.post("/predictions", json={"texts": ["three", "one", "three"]})
        recent = (await http.get("/recent_log")).json()
        assert [(call["index"], call["input"]) for call in recent] == list(
            enumerate(["one", "two", "three", "one", "three"])
        )
        assert len({call["called_at"] for call in recent}) <= 5
        page = (await http.get("/log?order=oldest")).json()
        assert [call["from_cache"] for call in page["calls"]][3] is True
        assert {call["model"] for call in page["calls"]} == {"f" * 64}


async def test_no_route_shows_a_text_to_another_caller() -> None:
    app = make_app()
    async with client_of(app, peer=ALICE) as alice:
        await alice.post("/predictions", json={"texts": [SECRET] * 3})
        assert (await alice.get("/recent_log")).text.count(SECRET) == 3
        paths = (await alice.get("/openapi.json")).json()["paths"]
        transport = httpx.ASGITransport(app, client=BOB)
        async with httpx.AsyncClient(transport=transport, base_url="http://tamis.test") as bob:
            for path, operations in paths.items():
                if "get" in operations:
                    answer = await bob.get(path, params={"text": "x"} if path == "/prediction" else {})
                    assert SECRET not in answer.text, path
            for form in ("json", "csv", "ndjson"):
                assert SECRET not in (await bob.get(f"/log?format={form}")).text
            assert (await bob.get("/log?caller=192.0.2.7")).status_code == 403
            assert (await bob.get("/log/summary?caller=192.0.2.7")).status_code == 403


async def test_old_calls_go_when_a_setting_says_so() -> None:
    clock = ManualClock(NOON)
    store = make_store("memory:", clock)
    app = make_app(Settings(log_retention_days=1), store=store, clock=clock)
    async with client_of(app) as http:
        await clock.sleeper()
        await http.post("/prediction", json={"text": "old"})
        clock.advance(DAY_SECONDS + 1)
        await clock.sleeper()
        assert (await store.log.read(LogQuery())).rows == []


async def test_the_application_stops_while_old_calls_are_kept_for_ever() -> None:
    async with started(make_app(Settings(log_retention_days=0))):
        pass
