from __future__ import annotations

import asyncio

from store_samples import SCORES, calls, everything, key, run

from tamis.storage import CallQuery, StoreOptions, TimeIds
from tamis.storage.memory import MemoryStore
from tests.support.fakes import ManualClock


def test_the_oldest_calls_and_answers_go_when_memory_is_full():
    async def test():
        clock = ManualClock()
        store = MemoryStore(clock, StoreOptions(cache_rows=3), max_calls=10)
        await store.open()
        written = calls(TimeIds(clock), 25)
        await store.append(written, {key(i): SCORES for i in range(5)})
        assert await everything(store) == written[-10:]
        assert await store.get_many([key(1), key(2), key(4)]) == [None, SCORES, SCORES]

    run(test)


def test_search_lets_other_work_go_on():
    async def test():
        clock = ManualClock()
        store = MemoryStore(clock)
        await store.open()
        await store.append([call._replace(text="x" * 10_000) for call in calls(TimeIds(clock), 1_000)])
        for search in (store.summary(CallQuery(contains="y")), store.calls(CallQuery(contains="y"))):
            searching, turns = asyncio.create_task(search), 0
            while not searching.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns >= 100, "ten million characters are searched in a hundred parts"

    run(test)


def test_search_goes_on_behind_rows_deleted_meanwhile():
    async def test():
        clock = ManualClock()
        store = MemoryStore(clock)
        await store.open()
        written = [call._replace(text="x" * 10_000) for call in calls(TimeIds(clock), 100)]
        await store.append([call._replace(caller="ab"[n % 2]) for n, call in enumerate(written)])
        counting = asyncio.create_task(store.summary(CallQuery(caller="b", contains="x")))
        await asyncio.sleep(0)
        assert not counting.done()
        assert await store.delete_caller("a") == 50
        assert sum(one.count for one in await counting) == 50

    run(test)
