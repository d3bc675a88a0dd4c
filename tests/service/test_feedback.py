"""Feedback over HTTP: whose predictions may be corrected, once or again, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid1, uuid4

import httpx
import pytest

from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.settings import Settings
from tamis.storage import make_store
from tests.support.fakes import ManualClock
from tests.support.metrics_page import value
from tests.support.serving import client_of, make_app

Ask = Callable[..., Awaitable[httpx.Response]]


class Callers:
    """Clients of one application with a key each."""

    def __init__(self, http: httpx.AsyncClient, keys: dict[str, str], clock: ManualClock):
        self._http, self._keys, self.clock = http, keys, clock

    async def send(self, caller: str, method: str, url: str, **parts: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._keys[caller]}"}
        return await self._http.request(method, url, headers=headers, **parts)

    async def predict(self, caller: str, text: str) -> dict[str, Any]:
        return (await self.send(caller, "POST", "/prediction", json={"text": text})).json()

    async def report(self, caller: str, **body: object) -> httpx.Response:
        return await self.send(caller, "POST", "/feedback", json=body)

    async def listed(self, caller: str, query: str = "") -> list[dict[str, Any]]:
        return (await self.send(caller, "GET", f"/feedback{query}")).json()["feedback"]


def with_callers(folder: Path, test: Callable[[Callers], Awaitable[None]], **settings: Any) -> None:
    """Run a test on an application with an SQLite store and keys of four callers."""
    clock, keys = ManualClock(), {}
    scopes = {
        "alice": ["predict", "feedback"],
        "bob": ["predict", "feedback"],
        "reader": ["predict"],
        "root": ["admin"],
    }
    for name, some in scopes.items():
        keys[name] = new_key()
        now = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
        KeyFile(folder / "keys.json").add(KeyRecord(name, hash_of(keys[name]), some, now, None), another=True)

    async def run() -> None:
        store = make_store(f"sqlite:///{folder}/tamis.db", clock)
        chosen = Settings(require_keys=True, keys_file=str(folder / "keys.json"), **settings)
        async with client_of(make_app(chosen, store=store, clock=clock)) as http:
            await test(Callers(http, keys, clock))

    asyncio.run(run())


def test_feedback_by_prediction_id_is_stored_once(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        answer = await callers.predict("alice", "win cash")
        first = await callers.report("alice", prediction_id=answer["id"], label="ham", comment="a friend")
        again = await callers.report("alice", prediction_id=answer["id"], label="ham", comment="a friend")
        assert (first.status_code, again.status_code) == (201, 201)
        stored = first.json()
        assert stored.pop("is_new_label") is False
        assert stored == {
            "id": stored["id"],
            "prediction_id": answer["id"],
            "caller": "alice",
            "input": "win cash",
            "label": "ham",
            "predicted": "spam",
            "model": "f" * 64,
            "model_name": "keywords",
            "model_version": "3",
            "comment": "a friend",
            "created_at": stored["created_at"],
            "updated_at": stored["created_at"],
        }
        [listed] = await callers.listed("alice")
        assert listed == stored | {"updated_at": listed["updated_at"]}

    with_callers(tmp_path, test)


def test_later_feedback_wins_with_its_time(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        answer = await callers.predict("alice", "win cash")
        first = (await callers.report("alice", prediction_id=answer["id"], label="ham")).json()
        callers.clock.advance(60)
        await callers.report("alice", prediction_id=answer["id"], label="spam")
        [row] = await callers.listed("alice")
        assert (row["id"], row["label"]) == (first["id"], "spam")
        assert row["updated_at"] > row["created_at"] == first["created_at"]

    with_callers(tmp_path, test)


def test_feedback_by_text_is_compared_with_the_model_now(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        for label in ("ham", "ham", "newsletter"):
            response = await callers.report("alice", text="win cash", label=label)
            assert response.status_code == 201
            assert response.json()["is_new_label"] is (label == "newsletter")
        [row] = await callers.listed("alice")
        assert (row["input"], row["label"], row["prediction_id"]) == ("win cash", "newsletter", None)
        assert (row["predicted"], row["model_version"]) == ("spam", "3")
        log = (await callers.send("alice", "GET", "/log")).json()["calls"]
        assert log == [], "feedback is no prediction"

    with_callers(tmp_path, test)


def test_another_callers_prediction_and_an_unknown_one_are_alike(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        answer = await callers.predict("alice", "win cash")
        refused = [
            await callers.report("bob", prediction_id=id, label="ham")
            for id in (answer["id"], str(uuid1()), str(uuid4()), "nonsense", answer["id"].upper()[:-1])
        ]
        assert {(one.status_code, one.content) for one in refused} == {(404, refused[0].content)}
        assert refused[0].json()["error"]["code"] == "prediction_not_found"
        assert await callers.listed("root") == []
        corrected = await callers.report("root", prediction_id=answer["id"], label="ham")
        assert (corrected.status_code, corrected.json()["caller"]) == (201, "root")

    with_callers(tmp_path, test)


def test_callers_read_their_own_feedback_and_admins_all(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        for caller, text in (("alice", "one"), ("bob", "two"), ("alice", "three")):
            await callers.report(caller, text=text, label="ham")
        assert [row["input"] for row in await callers.listed("alice")] == ["three", "one"]
        assert [row["input"] for row in await callers.listed("bob", "?order=oldest")] == ["two"]
        assert [row["input"] for row in await callers.listed("root")] == ["three", "two", "one"]
        assert [row["input"] for row in await callers.listed("root", "?caller=bob")] == ["two"]
        assert (await callers.send("bob", "GET", "/feedback?caller=alice")).status_code == 403
        assert (await callers.send("reader", "GET", "/feedback")).status_code == 403
        assert (await callers.report("reader", text="x", label="ham")).status_code == 403

    with_callers(tmp_path, test)


def test_feedback_is_paged_and_streamed_like_the_log(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        for number in range(5):
            await callers.report("alice", text=f"=text {number}", label="ham" if number else "spam")
        page = (await callers.send("alice", "GET", "/feedback?limit=3&order=oldest")).json()
        rest = await callers.send("alice", "GET", f"/feedback?order=oldest&cursor={page['next_cursor']}")
        inputs = [row["input"] for row in [*page["feedback"], *rest.json()["feedback"]]]
        assert inputs == [f"=text {number}" for number in range(5)]
        assert len(await callers.listed("alice", "?label=spam")) == 1
        as_csv = (await callers.send("alice", "GET", "/feedback?format=csv")).text.splitlines()
        assert as_csv[0].startswith("id,prediction_id,caller,input,label,predicted")
        assert '"\'=text 4"' in as_csv[1]
        lines = (await callers.send("alice", "GET", "/feedback?format=ndjson")).text.splitlines()
        assert len(lines) == 5

    with_callers(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"label": "ham"}, "wrong_type"),
        ({"label": "ham", "text": "x", "prediction_id": "y"}, "wrong_type"),
        ({"text": "x"}, "missing_field"),
        ({"text": "x", "label": ""}, "wrong_type"),
        ({"text": "x", "label": "y" * 201}, "text_too_long"),
        ({"text": "x" * 101, "label": "ham"}, "text_too_long"),
        ({"text": "x", "label": "ham", "Label": "ham"}, "unknown_field"),
        ({"text": 1, "label": "ham"}, "wrong_type"),
    ],
)
def test_invalid_feedback_names_the_field_and_echoes_nothing(
    tmp_path: Path, body: dict[str, object], code: str
) -> None:
    async def test(callers: Callers) -> None:
        response = await callers.report("alice", **body)
        assert (response.status_code, response.json()["error"]["code"]) == (422, code)
        assert "yyy" not in response.text and "xxx" not in response.text

    with_callers(tmp_path, test, max_text_chars=100)


def test_feedback_counts_for_the_rate_limit(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        responses = [await callers.report("alice", text=str(number), label="ham") for number in range(4)]
        assert [one.status_code for one in responses] == [201, 201, 201, 429]
        assert "ratelimit" in responses[0].headers

    limits = {"rate_per_minute": 1, "rate_burst": 3, "rate_file": str(tmp_path / "rates")}
    with_callers(tmp_path, test, **limits)


def test_cached_answers_have_their_own_ids(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        fresh, cached = [await callers.predict("alice", "win cash") for _ in range(2)]
        assert (fresh["from_cache"], cached["from_cache"]) == (False, True)
        assert fresh["id"] != cached["id"]
        same = {"id": "", "from_cache": None}
        assert fresh | same == cached | same
        calls = (await callers.send("alice", "GET", "/log?order=oldest")).json()["calls"]
        assert [call["id"] for call in calls] == [fresh["id"], cached["id"]]
        assert {(call["decision"], call["model_name"]) for call in calls} == {("spam", "keywords")}

    with_callers(tmp_path, test)


def test_feedback_accuracy_is_shown_with_its_caveat(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        for number in range(10):
            made = await callers.predict("alice", f"win cash {number}")
            label = "ham" if number == 3 else "spam"
            await callers.report("alice", prediction_id=made["id"], label=label)
        shown = (await callers.send("root", "GET", "/models/keywords")).json()["feedback"]
        [version] = shown["versions"]
        assert (version["correct"], version["total"], version["accuracy"]) == (9, 10, 0.9)
        assert 0.5 < version["low"] < 0.9 < version["high"] < 1 and "no random sample" in shown["caveat"]
        page = (await callers.send("root", "GET", "/metrics")).text
        labels = {"model": "keywords", "version": "3"}
        assert value(page, "tamis_feedback_labels", **labels) == 10
        assert value(page, "tamis_feedback_accuracy", **labels) == 0.9
        assert value(page, "tamis_feedback_accuracy_low", **labels) == version["low"]
        await callers.report("bob", text="win cash", label="ham")
        callers.clock.advance(11)
        shown = (await callers.send("root", "GET", "/models/keywords")).json()["feedback"]
        assert shown["versions"][0]["total"] == 11, "counted again after ten seconds"

    with_callers(tmp_path, test)


def test_feedback_by_text_may_name_a_model(tmp_path: Path) -> None:
    async def test(callers: Callers) -> None:
        named = await callers.report("alice", text="win cash", label="ham", model="keywords")
        assert (named.status_code, named.json()["model_name"], named.json()["predicted"]) == (
            201, "keywords", "spam",
        )  # fmt: skip
        unknown = await callers.report("alice", text="win cash", label="ham", model="other")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_model")
        made = await callers.predict("alice", "win cash")
        own = await callers.report("alice", prediction_id=made["id"], label="ham", model="other")
        assert own.json()["model_name"] == "keywords", "a prediction has its own model"

    with_callers(tmp_path, test)
