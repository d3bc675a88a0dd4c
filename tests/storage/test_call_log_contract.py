"""What every call log, and the store around it, must do; `conftest.STORES` lists the implementations."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from tamis.errors import InputError, StoreError
from tamis.storage import HourCount, LogQuery, called_at
from tamis.storage.query import encode_cursor
from tests.support.store_samples import HOSTILE_TEXTS, MODEL, call, calls, everything, hour


def test_calls_come_back_exactly_whatever_their_text(check):
    async def body(store, ids):
        written = [call(ids, text, score=1 / 3, from_cache=True) for text in HOSTILE_TEXTS]
        await store.log.append(written)
        assert await everything(store) == written

    check(body)


def test_an_empty_append_and_an_empty_lookup_do_nothing(check):
    async def body(store, ids):
        await store.log.append([])
        assert await store.cache.get_many([]) == []
        assert await everything(store) == []

    check(body)


def test_a_call_appended_twice_is_there_once(check):
    async def body(store, ids):
        written = calls(ids, 3)
        await asyncio.gather(store.log.append(written), store.log.append(written[:2]))
        assert await everything(store) == written

    check(body)


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_of_rows_out_of_order_have_no_gap_or_overlap(check, newest_first):
    async def body(store, ids):
        written = calls(ids, 57)
        shuffled = written.copy()
        Random(1).shuffle(shuffled)
        for one in shuffled:
            await store.log.append([one])
        expected = written[::-1] if newest_first else written
        for limit in (1, 10, 57, 100):
            assert await everything(store, LogQuery(newest_first=newest_first), limit=limit) == expected

    check(body)


def test_a_cursor_means_the_same_after_a_restart(check, make, clock):
    async def body(store, ids):
        written = calls(ids, 10)
        await store.log.append(written)
        page = await store.log.read(LogQuery(), limit=4)
        await store.close()
        await store.open()
        rest = await store.log.read(LogQuery(), after=page.cursor)
        assert [*page.rows, *rest.rows] == written
        assert rest.cursor is None

    check(body)


def test_a_query_gives_only_what_it_asks_for(check, clock):
    async def body(store, ids):
        early = call(ids, "WIN a FREE phone", label="spam")
        clock.advance(3_600)
        late = call(ids, "win\0 a free phone", caller="bob", label="spam", model="other")
        last = call(ids, "lunch?", caller="bob")
        await store.log.append([early, late, last])

        async def found(**wishes):
            return await everything(store, LogQuery(**wishes), limit=1)

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
        await store.log.append([*calls(ids, 2_500), needle, *calls(ids, 2_500)])
        for newest_first in (False, True):
            query = LogQuery(contains="NEEDLE", newest_first=newest_first)
            assert await everything(store, query) == [needle]

    check(body)


def test_one_caller_never_sees_another_whatever_the_cursor(check):
    async def body(store, ids):
        mine, others = call(ids), call(ids, caller="other")
        await store.log.append([mine, others])
        for after in (None, encode_cursor(bytes(16)), encode_cursor(mine.id), encode_cursor(others.id)):
            page = await store.log.read(LogQuery(caller="10.0.0.1"), after=after)
            assert set(page.rows) <= {mine}

    check(body)


def test_a_bad_cursor_is_refused(check):
    async def body(store, ids):
        with pytest.raises(InputError, match="cursor"):
            await store.log.read(LogQuery(), after="nonsense")

    check(body)


def test_the_summary_counts_by_hour_and_label(check, clock):
    async def body(store, ids):
        first = hour(clock)
        await store.log.append([*calls(ids, 3), *calls(ids, 2, label="spam"), *calls(ids, 4, caller="bob")])
        clock.advance(5 * 3_600)
        await store.log.append(calls(ids, 1, label="spam"))
        fifth = first + timedelta(hours=5)
        assert await store.log.summary(LogQuery()) == [
            HourCount(first, "ham", 7),
            HourCount(first, "spam", 2),
            HourCount(fifth, "spam", 1),
        ]
        assert await store.log.summary(LogQuery(caller="bob")) == [HourCount(first, "ham", 4)]
        assert await store.log.summary(LogQuery(label="spam", until=fifth)) == [HourCount(first, "spam", 2)]
        assert await store.log.summary(LogQuery(since=fifth)) == [HourCount(fifth, "spam", 1)]

    check(body)


def test_retention_deletes_what_is_older_and_nothing_else(check, clock):
    async def body(store, ids):
        await store.log.append(calls(ids, 2_500))
        clock.advance(60)
        kept = calls(ids, 3)
        await store.log.append(kept)
        assert await store.log.delete_before(called_at(kept[0].id)) == 2_500
        assert await everything(store) == kept
        assert await store.log.delete_before(datetime(1990, 1, 1, tzinfo=UTC)) == 0

    check(body)


def test_deleting_a_caller_leaves_the_others(check):
    async def body(store, ids):
        kept = calls(ids, 2, caller="bob")
        await store.log.append([*calls(ids, 1_200), *kept])
        assert await store.log.delete_caller("10.0.0.1") == 1_200
        assert await everything(store) == kept
        assert await store.log.summary(LogQuery(caller="10.0.0.1")) == []

    check(body)


@pytest.mark.parametrize("field", ["text", "caller", "label", "model"])
def test_half_a_surrogate_pair_is_refused_alone(check, field):
    async def body(store, ids):
        good = calls(ids, 2)
        outcomes = await asyncio.gather(
            store.log.append(good[:1]),
            store.log.append([call(ids, **{field: "\ud83d"})]),
            store.log.append(good[1:]),
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
            await store.log.append([call(ids, score=score)])
        assert await everything(store) == []

    check(body)


def test_a_cancelled_caller_disturbs_nobody(check):
    async def body(store, ids):
        written = calls(ids, 20)
        tasks = [asyncio.create_task(store.log.append([one])) for one in written]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(outcome is None for outcome in outcomes[1::2])
        rows = await everything(store)
        assert set(written[1::2]) <= set(rows) <= set(written)
        assert len(rows) == len(set(rows))

    check(body)


async def test_a_store_that_is_not_open_says_so(make, clock):
    store = make(clock, None)
    with pytest.raises(StoreError, match="not open"):
        await store.log.read(LogQuery())
    await store.close()


def test_a_store_that_works_says_so_and_keeps_its_secret(check):
    async def body(store, ids):
        secret = store.cache.secret
        assert len(secret) == 32
        assert (await store.check()).schema_version > 0
        await store.log.append(calls(ids, 1))
        await store.open()
        await store.migrate()
        assert store.cache.secret == secret
        assert len(await everything(store)) == 1

    check(body)


def test_call_is_found_by_its_id_and_only_by_its_caller(check):
    async def body(store, ids):
        mine = call(ids, decision="spam", model_name="spam", model_version="3")
        others = call(ids, caller="bob")
        await store.log.append([mine, others])
        assert await store.log.find(mine.id) == await store.log.find(mine.id, caller="10.0.0.1") == mine
        assert await store.log.find(others.id) == others
        assert await store.log.find(mine.id, caller="bob") is None
        assert await store.log.find(ids.next()) is None

    check(body)


def test_calls_are_filtered_by_the_models_name_and_version(check):
    async def body(store, ids):
        rows = [
            call(ids, model_name=name, model_version=version)
            for name, version in (("spam", "1"), ("spam", "2"), ("language", "1"), (None, None))
        ]
        await store.log.append(rows)
        assert await everything(store, LogQuery(model_name="spam")) == rows[:2]
        assert await everything(store, LogQuery(model_version="1")) == [rows[0], rows[2]]
        assert await everything(store, LogQuery(model_name="spam", model_version="2")) == [rows[1]]
        assert len(await store.log.summary(LogQuery(model_name="language"))) == 1

    check(body)
