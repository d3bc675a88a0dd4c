"""What every prediction cache must do; `conftest.STORES` lists the implementations."""

from __future__ import annotations

from random import Random

import pytest

from tamis.storage import StoreOptions
from tests.support.store_samples import SCORES, key


def test_answers_come_back_to_the_last_digit(check):
    rng = Random(5)
    answers = {key(i): {"ham": rng.random(), "spam": 10 ** -rng.uniform(0, 300)} for i in range(200)}

    async def body(store, ids):
        await store.cache.put_many(answers)
        await store.cache.put_many({key(900): SCORES})
        assert await store.cache.get_many(list(answers)) == list(answers.values())
        assert await store.cache.get_many([key(999), key(900), key(900)]) == [None, SCORES, SCORES]

    check(body)


def test_an_answer_expires_after_its_time_and_is_then_replaced(check, clock):
    async def body(store, ids):
        await store.cache.put_many({key(1): SCORES})
        clock.advance(99)
        await store.cache.put_many({key(1): {"ham": 1.0}})
        assert await store.cache.get_many([key(1)]) == [SCORES], "a live answer stays"
        clock.advance(2)
        assert await store.cache.get_many([key(1)]) == [None]
        await store.cache.put_many({key(1): {"ham": 1.0}})
        assert await store.cache.get_many([key(1)]) == [{"ham": 1.0}]

    if_cached_for = StoreOptions(cache_seconds=100)
    check(body, if_cached_for)


@pytest.mark.parametrize("step_seconds", [3_600, -3_600])
def test_no_answer_expires_early_when_the_wall_clock_steps(check, clock, step_seconds):
    async def body(store, ids):
        await store.cache.put_many({key(1): SCORES})
        clock.step_utc(step_seconds)
        clock.advance(60)
        assert await store.cache.get_many([key(1)]) == [SCORES]

    check(body, StoreOptions(cache_seconds=100, full_durability=False))
