"""Whatever is asked of the log, the answer is what a list comprehension finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.storage import CallRecord, called_at
from tests.support.logbook import Log, with_log

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
CALLERS = ("alice", "bob", "10.0.0.1")
LABELS = ("ham", "spam", "null")
MODELS = ("m1", "m2")
TEXTS = ("win a FREE phone", "Free", "lunch?", "", "a\0b", "null", "ÉTÉ", "100 % +1 & more")

calls = st.lists(
    st.tuples(
        st.sampled_from(CALLERS), st.sampled_from(TEXTS), st.sampled_from(LABELS), st.sampled_from(MODELS)
    ),
    max_size=30,
)
moments = st.integers(-5, 35).map(lambda steps: START + timedelta(minutes=10 * steps))
queries = st.fixed_dictionaries(
    {"order": st.sampled_from(["newest", "oldest"])},
    optional={
        "since": moments,
        "until": moments,
        "label": st.sampled_from(LABELS),
        "model": st.sampled_from(MODELS),
        "contains": st.sampled_from(["free", "FREE", "", "\0", "null", "+1 &", "é", "%", "_"]),
    },
)


def lower(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


def expected(logged: list[CallRecord], query: dict[str, Any], caller: str | None) -> list[str]:
    found = [
        call.text
        for call in logged
        if (caller is None or call.caller == caller)
        and ("since" not in query or called_at(call.id) >= query["since"])
        and ("until" not in query or called_at(call.id) < query["until"])
        and ("label" not in query or call.label == query["label"])
        and ("model" not in query or call.model == query["model"])
        and ("contains" not in query or lower(query["contains"]) in lower(call.text))
    ]
    return found[::-1] if query["order"] == "newest" else found


async def all_pages(log: Log, query: dict[str, Any], limit: int, caller: str) -> list[str]:
    parameters = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()
    }
    found, cursor = [], ""
    while cursor is not None:
        response = await log.get(
            "/log", caller, params={**parameters, "limit": limit, **({"cursor": cursor} if cursor else {})}
        )
        page = response.json()
        found += [call["input"] for call in page["calls"]]
        cursor = page["next_cursor"]
    return found


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logged=calls, query=queries, limit=st.integers(1, 12), caller=st.sampled_from([*CALLERS, "root"]))
def test_filters_find_what_a_list_comprehension_finds(
    tmp_path_factory: pytest.TempPathFactory,
    store: str,
    logged: list[tuple[str, str, str, str]],
    query: dict[str, Any],
    limit: int,
    caller: str,
) -> None:
    async def test(log: Log) -> None:
        records = []
        for name, text, label, model in logged:
            records.append(await log.call(text, name, label=label, model=model))
            log.clock.advance(600)
        whose = None if caller == "root" else caller
        assert await all_pages(log, query, limit, caller) == expected(records, query, whose)
        without_order = {name: value for name, value in query.items() if name != "order"}
        counts = (
            await log.get("/log/summary", caller, params={n: str(v) for n, v in without_order.items()})
        ).json()["counts"]
        assert sum(one["count"] for one in counts) == len(expected(records, query, whose))

    folder: Path = tmp_path_factory.mktemp("log")
    with_log("memory:" if store == "memory" else f"sqlite:///{folder}/tamis.db", test)
