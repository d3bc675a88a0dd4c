"""What each route of the call log gives to whom, over every embedded store."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from tamis.service.call_log.stream import PAGE_ROWS
from tamis.storage import CallRecord, LogQuery, TimeIds
from tests.support.fakes import ManualClock
from tests.support.logbook import MODEL, NOON, Log, with_log

HOSTILE_TEXTS = ("a\0b", "", "\r\n", '"quoted", cut', "😀 and é", "\x7f\x1b[31m", "x" * 70_000)


async def three_hours(log: Log) -> None:
    """Log five calls of two callers: at 12:00, 12:20, 12:40, 13:00 and 13:20."""
    for text, caller, label in [
        ("Free phone", "alice", "spam"),
        ("lunch?", "bob", "ham"),
        ("free entry", "alice", "spam"),
        ("lunch!", "alice", "ham"),
        ("win", "bob", "spam"),
    ]:
        await log.call(text, caller, label=label)
        log.clock.advance(1_200)


def inputs(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [call["input"] for call in response.json()["calls"]]


def error(response: httpx.Response) -> tuple[int, str, str]:
    found = response.json()["error"]
    return response.status_code, found["code"], found["message"]


def test_recent_log_gives_the_contracts_list(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("of the hour before")
        log.clock.advance(3_600 + 1_113.209512)
        await log.call("first")
        await log.call("somebody else's", "bob")
        log.clock.advance(0.5)
        await log.call("second")
        response = await log.get("/recent_log")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert response.content == (
            b'[{"index":0,"input":"first","called_at":"2026-11-21T13:18:33.209512Z"},'
            b'{"index":1,"input":"second","called_at":"2026-11-21T13:18:33.709512Z"}]'
        )

    with_log(store_url, test)


def test_recent_log_is_an_empty_list_when_nothing_was_called(store_url: str) -> None:
    async def test(log: Log) -> None:
        assert (await log.get("/recent_log")).content == b"[]"

    with_log(store_url, test)


def test_recent_log_tells_microseconds_when_they_are_zero(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("on the dot")
        assert (await log.get("/recent_log")).json()[0]["called_at"] == "2026-11-21T12:00:00.000000Z"

    with_log(store_url, test)


def test_recent_log_keeps_order_and_index_across_pages(store_url: str) -> None:
    async def test(log: Log) -> None:
        for number in range(2 * PAGE_ROWS + 1):
            await log.call(str(number))
        found = (await log.get("/recent_log")).json()
        assert [(one["index"], one["input"]) for one in found] == [
            (number, str(number)) for number in range(2 * PAGE_ROWS + 1)
        ]

    with_log(store_url, test)


def test_recent_log_keeps_the_hour_when_the_clock_steps_back(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("before the step")
        log.clock.step_utc(-3_600)
        await log.call("after the step")
        assert [one["input"] for one in (await log.get("/recent_log")).json()] == [
            "before the step",
            "after the step",
        ]

    with_log(store_url, test)


def test_recent_log_ends_with_the_hour_across_workers(store_url: str) -> None:
    async def test(log: Log) -> None:
        ahead = TimeIds(ManualClock(NOON + 3_600 * 10**9))
        await log.call("of the next hour", id=ahead.next())
        assert (await log.get("/recent_log")).json() == []

    with_log(store_url, test)


def test_recent_log_gives_an_admin_their_own_calls_only(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("alice's")
        assert (await log.get("/recent_log", "root")).json() == []

    with_log(store_url, test)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_any_text_comes_back_in_every_form(store_url: str, text: str) -> None:
    async def test(log: Log) -> None:
        await log.call(text)
        assert (await log.get("/recent_log")).json()[0]["input"] == text
        assert inputs(await log.get("/log")) == [text]
        assert json.loads((await log.get("/log?format=ndjson")).text)["input"] == text
        [row] = csv.DictReader(io.StringIO((await log.get("/log?format=csv")).text, newline=""))
        assert row["input"].removeprefix("'") == text

    with_log(store_url, test)


def test_log_gives_all_that_is_known_of_a_call(store_url: str) -> None:
    async def test(log: Log) -> None:
        model = {"decision": "spam", "model_name": "sms", "model_version": "3"}
        await log.call("hello", from_cache=True, score=0.1 + 0.2, **model)
        page = (await log.get("/log")).json()
        id = page["calls"][0].pop("id")
        assert page == {
            "calls": [
                {
                    "called_at": "2026-11-21T12:00:00.000000Z",
                    "caller": "alice",
                    "input": "hello",
                    "label": "ham",
                    "score": 0.1 + 0.2,
                    "model": MODEL,
                    "from_cache": True,
                    **model,
                }
            ],
            "next_cursor": None,
        }
        assert len(id) == 36

    with_log(store_url, test)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["lunch!", "free entry", "Free phone"]),
        ("order=oldest", ["Free phone", "free entry", "lunch!"]),
        ("label=spam", ["free entry", "Free phone"]),
        ("contains=FREE+", ["free entry", "Free phone"]),
        ("contains=", ["lunch!", "free entry", "Free phone"]),
        ("model=other", []),
        (f"model={MODEL}&limit=1", ["lunch!"]),
        ("since=2026-11-21T12:40:00Z", ["lunch!", "free entry"]),
        ("until=2026-11-21T12:40:00Z", ["Free phone"]),
        ("since=2026-11-21T14:00:00%2B01:00", ["lunch!"]),
        ("since=2026-11-21T14:00:00+01:00", ["lunch!"]),
        ("since=2026-11-21T12:00:00.000001Z&until=2026-11-21T13:00:00Z", ["free entry"]),
        ("since=9999-12-31T23:59:59-12:00", []),
        ("until=0001-01-01T00:00:00%2B12:00", []),
    ],
)
def test_log_filters(store_url: str, query: str, expected: list[str]) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        assert inputs(await log.get(f"/log?{query}")) == expected

    with_log(store_url, test)


@pytest.mark.parametrize(
    "path", ["/recent_log", "/log", "/log?format=csv", "/log?format=ndjson", "/log/summary"]
)
def test_no_caller_sees_a_row_of_another(store_url: str, path: str) -> None:
    async def test(log: Log) -> None:
        await log.call("secret of alice", label="secret")
        assert "secret" in (await log.get(path, "alice")).text
        assert "secret" not in (await log.get(path, "bob")).text

    with_log(store_url, test)


def test_cursor_of_another_caller_reveals_no_row(store_url: str) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        cursor = (await log.get("/log?limit=1", "alice")).json()["next_cursor"]
        assert inputs(await log.get("/log", "bob", params={"cursor": cursor})) == ["lunch?"]

    with_log(store_url, test)


@pytest.mark.parametrize("path", ["/log?caller=alice", "/log?caller=bob", "/log/summary?caller=alice"])
def test_caller_is_refused_when_the_key_has_no_admin_scope(store_url: str, path: str) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        status, code, message = error(await log.get(path, "bob"))
        assert (status, code) == (403, "not_admin")
        assert "`caller`" in message

    with_log(store_url, test)


def test_an_admin_reads_everybody_or_one(store_url: str) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        assert len(inputs(await log.get("/log", "root"))) == 5
        assert inputs(await log.get("/log?caller=bob", "root")) == ["win", "lunch?"]
        counts = (await log.get("/log/summary?caller=bob", "root")).json()["counts"]
        assert sum(one["count"] for one in counts) == 2

    with_log(store_url, test)


def test_cursors_lead_through_all_calls_once(store_url: str) -> None:
    async def test(log: Log) -> None:
        expected = [(await log.call(str(number))).text for number in range(250)]
        for order, wanted in [("oldest", expected), ("newest", expected[::-1])]:
            found: list[str] = []
            parameters: dict[str, Any] = {"limit": 120, "order": order}
            while True:
                page = (await log.get("/log", params=parameters)).json()
                found += [call["input"] for call in page["calls"]]
                if page["next_cursor"] is None:
                    break
                parameters["cursor"] = page["next_cursor"]
            assert found == wanted

    with_log(store_url, test)


def test_log_without_limit_gives_100_as_json_and_all_otherwise(store_url: str) -> None:
    async def test(log: Log) -> None:
        for number in range(250):
            await log.call(str(number))
        assert len(inputs(await log.get("/log"))) == 100
        assert len((await log.get("/log?format=ndjson")).text.splitlines()) == 250
        assert len((await log.get("/log?format=csv")).text.splitlines()) == 251
        assert len((await log.get("/log?format=ndjson&limit=130")).text.splitlines()) == 130

    with_log(store_url, test)


def test_json_page_of_a_sparse_search_ends_early_with_a_cursor(tmp_path: Path) -> None:
    """One step of a search looks through a bounded number of rows."""

    async def test(log: Log) -> None:
        await log.call("needle")
        for _ in range(110):
            await log.store.log.append([structs.replace(template, id=log.ids.next()) for _ in range(1_000)])
        first = (await log.get("/log?contains=needle")).json()
        assert (first["calls"], first["next_cursor"] is None) == ([], False)
        second = await log.get("/log", params={"contains": "needle", "cursor": first["next_cursor"]})
        assert inputs(second) == ["needle"]
        assert len((await log.get("/log?contains=needle&format=ndjson")).text.splitlines()) == 1

    template = CallRecord(b"", "alice", "hay", "ham", 0.5, MODEL, False)
    with_log(f"sqlite:///{tmp_path}/tamis.db", test)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0, application/json", "application/json"),
        ("text/csv;q=nonsense", "application/json"),
        ("", "application/json"),
        ("Text/CSV ; header=present", "text/csv"),
    ],
)
def test_accept_chooses_the_form_when_the_query_does_not(accept: str, form: str) -> None:
    async def test(log: Log) -> None:
        response = await log.get("/log", headers={"accept": accept})
        assert response.headers["content-type"].partition(";")[0] == form
        forced = await log.get("/log?format=ndjson", headers={"accept": accept})
        assert forced.headers["content-type"] == "application/x-ndjson"

    with_log("memory:", test)


@pytest.mark.parametrize("path", ["/log", "/log/summary"])
@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("since=yesterday", 422, "since"),
        ("since=2026-11-21T12:00:00", 422, "since"),
        ("until=1795262400", 422, "until"),
        ("until=", 422, "until"),
        ("colour=red", 422, "colour"),
        ("label=a&label=b", 400, "label"),
        ("label=%ff", 400, "query"),
    ],
)
def test_a_wrong_parameter_is_named(path: str, query: str, status: int, field: str) -> None:
    async def test(log: Log) -> None:
        found, _, message = error(await log.get(f"{path}?{query}"))
        assert found == status
        assert field in message

    with_log("memory:", test)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1000001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e3", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("order=backwards", "order"),
        ("format=xml", "format"),
        ("cursor=", "cursor"),
        ("cursor=AQAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
    ],
)
def test_log_wrong_parameter_is_named_without_its_value(query: str, field: str) -> None:
    async def test(log: Log) -> None:
        status, _, message = error(await log.get(f"/log?{query}"))
        assert status == 422
        assert field in message
        value = query.partition("=")[2]
        assert len(value) < 2 or value not in message

    with_log("memory:", test)


def test_recent_log_takes_no_parameter() -> None:
    async def test(log: Log) -> None:
        assert error(await log.get("/recent_log?hour=12"))[0] == 422

    with_log("memory:", test)


def test_summary_counts_by_hour_and_label(store_url: str) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        assert (await log.get("/log/summary")).json() == {
            "counts": [
                {"hour": "2026-11-21T12:00:00Z", "label": "spam", "count": 2},
                {"hour": "2026-11-21T13:00:00Z", "label": "ham", "count": 1},
            ]
        }
        assert (await log.get("/log/summary?label=ham&since=2026-11-21T14:00:00Z")).json() == {"counts": []}

    with_log(store_url, test)


@pytest.mark.parametrize("path", ["/recent_log", "/log", "/log?format=csv", "/log/summary"])
def test_a_store_that_fails_is_a_503_that_tells_no_path(store_url: str, path: str) -> None:
    async def test(log: Log) -> None:
        await log.store.close()
        response = await log.get(path)
        assert response.json() == {
            "error": {
                "code": "store_unavailable",
                "message": "the call log cannot be read now; try again",
            }
        }
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")

    with_log(store_url, test)


def test_what_was_deleted_is_not_shown(store_url: str) -> None:
    async def test(log: Log) -> None:
        await three_hours(log)
        await log.store.log.delete_caller("alice")
        assert inputs(await log.get("/log")) == []
        assert [call.caller for call in (await log.store.log.read(LogQuery())).rows] == ["bob", "bob"]

    with_log(store_url, test)
