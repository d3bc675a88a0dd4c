"""What every store must do. A new store joins by one line in `STORES`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from store_samples import HOSTILE_TEXTS, MODEL, SCORES, call, calls, database, everything, hour, key, run

from tamis.clock import Clock
from tamis.errors import InputError, StoreError
from tamis.storage import (
    CallQuery,
    ClusterOptions,
    FileSpool,
    HourCount,
    MemorySpool,
    ResilientStore,
    Store,
    StoreOptions,
    TimeIds,
    called_at,
    make_store,
)
from tamis.storage.keys import encode_cursor
from tests.support.fakes import ManualClock

PATIENT = ClusterOptions(
    deadline_seconds=10, cache_deadline_seconds=5, connect_seconds=30, cache_consistency="LOCAL_QUORUM"
)
"""Three nodes share two cores; one replica alone may not yet have what was just remembered."""

MakeStore = Callable[[Clock, StoreOptions | None], Store]

STORES = [
    "memory",
    "sqlite",
    "sqlite-full",
    "resilient",
    "resilient-file",
    pytest.param("cassandra", marks=pytest.mark.cassandra),
    pytest.param("resilient-cassandra", marks=pytest.mark.cassandra),
]


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    url = "memory:" if request.param == "memory" else f"sqlite:///{database(tmp_path)}"
    if "cassandra" in request.param:
        url = request.getfixturevalue("empty_keyspace")

    def make_one(clock: Clock, options: StoreOptions | None = None) -> Store:
        kind, _, variant = request.param.partition("-")
        if variant == "full":
            options = replace(options or StoreOptions(), full_durability=True)
        options = replace(options or StoreOptions(), cluster=PATIENT)
        store = make_store(url, clock, options)
        if kind != "resilient":
            return store
        spool = FileSpool(tmp_path / "spool.db") if variant == "file" else MemorySpool()
        return ResilientStore(store, spool, clock)

    return make_one


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def check(make: MakeStore, clock: ManualClock) -> Callable[..., None]:
    """Run a test's body with an open store and ids."""

    def with_store(body: Callable[..., object], options: StoreOptions | None = None) -> None:
        async def test() -> None:
            store = make(clock, options)
            await store.open()
            try:
                await body(store, TimeIds(clock))  # type: ignore[misc]
            finally:
                await store.close()

        run(test)

    return with_store


def test_calls_come_back_exactly_whatever_their_text(check):
    async def body(store, ids):
        written = [call(ids, text, score=1 / 3, from_cache=True) for text in HOSTILE_TEXTS]
        await store.append(written)
        assert await everything(store) == written

    check(body)


def test_answers_come_back_to_the_last_digit(check):
    rng = Random(5)
    answers = {key(i): {"ham": rng.random(), "spam": 10 ** -rng.uniform(0, 300)} for i in range(200)}

    async def body(store, ids):
        await store.append([], answers)
        await store.append([], {key(900): SCORES})
        assert await store.get_many(list(answers)) == list(answers.values())
        assert await store.get_many([key(999), key(900), key(900)]) == [None, SCORES, SCORES]

    check(body)


def test_an_empty_append_and_an_empty_lookup_do_nothing(check):
    async def body(store, ids):
        await store.append([])
        assert await store.get_many([]) == []
        assert await everything(store) == []

    check(body)


def test_a_call_appended_twice_is_there_once(check):
    async def body(store, ids):
        written = calls(ids, 3)
        await asyncio.gather(store.append(written), store.append(written[:2]))
        assert await everything(store) == written

    check(body)


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_meet_without_gap_or_overlap_when_rows_arrive_out_of_order(check, newest_first):
    async def body(store, ids):
        written = calls(ids, 57)
        shuffled = written.copy()
        Random(1).shuffle(shuffled)
        for one in shuffled:
            await store.append([one])
        expected = written[::-1] if newest_first else written
        for limit in (1, 10, 57, 100):
            assert await everything(store, CallQuery(newest_first=newest_first), limit=limit) == expected

    check(body)


def test_a_cursor_means_the_same_after_a_restart(check, make, clock):
    async def body(store, ids):
        written = calls(ids, 10)
        await store.append(written)
        page = await store.calls(CallQuery(), limit=4)
        await store.close()
        await store.open()
        rest = await store.calls(CallQuery(), after=page.cursor)
        assert [*page.calls, *rest.calls] == written
        assert rest.cursor is None

    check(body)


def test_a_query_gives_only_what_it_asks_for(check, clock):
    async def body(store, ids):
        early = call(ids, "WIN a FREE phone", label="spam")
        clock.advance(3_600)
        late = call(ids, "win\0 a free phone", caller="bob", label="spam", model="other")
        last = call(ids, "lunch?", caller="bob")
        await store.append([early, late, last])

        async def found(**wishes):
            return await everything(store, CallQuery(**wishes), limit=1)

        assert await found(caller="bob") == [late, last]
        assert await found(caller="nobody") == []
        assert await found(label="spam") == [early, late]
        assert await found(model=MODEL, newest_first=True) == [last, early]
        assert await found(contains="FREE P") == [early, late]
        assert await found(contains="\0 A") == [late]
        assert await found(contains="%") == []
        assert await found(since=hour(clock)) == [late, last]
        assert await found(until=hour(clock)) == [early]
        assert await found(since=called_at(last.id), caller="bob", label="ham") == [last]

    check(body)


def test_a_search_finds_the_one_among_thousands(check):
    async def body(store, ids):
        needle = call(ids, "needle")
        await store.append([*calls(ids, 2_500), needle, *calls(ids, 2_500)])
        for newest_first in (False, True):
            query = CallQuery(contains="NEEDLE", newest_first=newest_first)
            assert await everything(store, query) == [needle]

    check(body)


def test_one_caller_never_sees_another_whatever_the_cursor(check):
    async def body(store, ids):
        mine, others = call(ids), call(ids, caller="other")
        await store.append([mine, others])
        for after in (None, encode_cursor(bytes(16)), encode_cursor(mine.id), encode_cursor(others.id)):
            page = await store.calls(CallQuery(caller="10.0.0.1"), after=after)
            assert set(page.calls) <= {mine}

    check(body)


def test_a_bad_cursor_is_refused(check):
    async def body(store, ids):
        with pytest.raises(InputError, match="cursor"):
            await store.calls(CallQuery(), after="nonsense")

    check(body)


def test_the_summary_counts_by_hour_and_label(check, clock):
    async def body(store, ids):
        first = hour(clock)
        await store.append([*calls(ids, 3), *calls(ids, 2, label="spam"), *calls(ids, 4, caller="bob")])
        clock.advance(5 * 3_600)
        await store.append(calls(ids, 1, label="spam"))
        fifth = first + timedelta(hours=5)
        assert await store.summary(CallQuery()) == [
            HourCount(first, "ham", 7),
            HourCount(first, "spam", 2),
            HourCount(fifth, "spam", 1),
        ]
        assert await store.summary(CallQuery(caller="bob")) == [HourCount(first, "ham", 4)]
        assert await store.summary(CallQuery(label="spam", until=fifth)) == [HourCount(first, "spam", 2)]
        assert await store.summary(CallQuery(since=fifth)) == [HourCount(fifth, "spam", 1)]

    check(body)


def test_retention_deletes_what_is_older_and_nothing_else(check, clock):
    async def body(store, ids):
        await store.append(calls(ids, 2_500))
        clock.advance(60)
        kept = calls(ids, 3)
        await store.append(kept)
        assert await store.delete_before(called_at(kept[0].id)) == 2_500
        assert await everything(store) == kept
        assert await store.delete_before(datetime(1990, 1, 1, tzinfo=UTC)) == 0

    check(body)


def test_deleting_a_caller_leaves_the_others(check):
    async def body(store, ids):
        kept = calls(ids, 2, caller="bob")
        await store.append([*calls(ids, 1_200), *kept])
        assert await store.delete_caller("10.0.0.1") == 1_200
        assert await everything(store) == kept
        assert await store.summary(CallQuery(caller="10.0.0.1")) == []

    check(body)


def test_an_answer_expires_after_its_time_and_is_then_replaced(check, clock):
    async def body(store, ids):
        await store.append([], {key(1): SCORES})
        clock.advance(99)
        await store.append([], {key(1): {"ham": 1.0}})
        assert await store.get_many([key(1)]) == [SCORES], "a live answer stays"
        clock.advance(2)
        assert await store.get_many([key(1)]) == [None]
        await store.append([], {key(1): {"ham": 1.0}})
        assert await store.get_many([key(1)]) == [{"ham": 1.0}]

    if_cached_for = StoreOptions(cache_seconds=100)
    check(body, if_cached_for)


@pytest.mark.parametrize("step_seconds", [3_600, -3_600])
def test_no_answer_expires_early_when_the_wall_clock_steps(check, clock, step_seconds):
    async def body(store, ids):
        await store.append([], {key(1): SCORES})
        clock.step_utc(step_seconds)
        clock.advance(60)
        assert await store.get_many([key(1)]) == [SCORES]

    check(body, StoreOptions(cache_seconds=100, full_durability=False))


@pytest.mark.parametrize("field", ["text", "caller", "label", "model"])
def test_half_a_surrogate_pair_is_refused_and_its_neighbours_are_written(check, field):
    async def body(store, ids):
        good = calls(ids, 2)
        outcomes = await asyncio.gather(
            store.append(good[:1]),
            store.append([call(ids, **{field: "\ud83d"})]),
            store.append(good[1:]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), InputError, type(None)]
        assert outcomes[1].field == field
        assert await everything(store) == good

    check(body)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(check, score):
    async def body(store, ids):
        with pytest.raises(InputError, match="finite"):
            await store.append([call(ids, score=score)])
        assert await everything(store) == []

    check(body)


def test_a_cancelled_caller_disturbs_nobody(check):
    async def body(store, ids):
        written = calls(ids, 20)
        tasks = [asyncio.create_task(store.append([one])) for one in written]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(outcome is None for outcome in outcomes[1::2])
        rows = await everything(store)
        assert set(written[1::2]) <= set(rows) <= set(written)
        assert len(rows) == len(set(rows))

    check(body)


def test_a_store_that_is_not_open_says_so(make, clock):
    async def test():
        store = make(clock, None)
        with pytest.raises(StoreError, match="not open"):
            await store.calls(CallQuery())
        await store.close()

    run(test)


def test_a_store_that_works_says_so_and_keeps_its_secret(check):
    async def body(store, ids):
        secret = store.secret
        assert len(secret) == 32
        assert (await store.check()).schema_version > 0
        await store.append(calls(ids, 1))
        await store.open()
        await store.migrate()
        assert store.secret == secret
        assert len(await everything(store)) == 1

    check(body)
