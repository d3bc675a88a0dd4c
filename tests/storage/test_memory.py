from __future__ import annotations

import asyncio

from msgspec import structs

from tamis.storage import LogQuery, StoreOptions, TimeIds
from tamis.storage.memory import MemoryStore
from tests.support.fakes import ManualClock
from tests.support.store_samples import SCORES, calls, everything, key


async def test_the_oldest_calls_and_answers_go_when_memory_is_full():
    clock = ManualClock()
    store = MemoryStore(clock, StoreOptions(cache_rows=3), max_rows=10)
    await store.open()
    written = calls(TimeIds(clock), 25)
    await store.log.append(written)
    await store.cache.put_many({key(i): SCORES for i in range(5)})
    assert await everything(store) == written[-10:]
    assert await store.cache.get_many([key(1), key(2), key(4)]) == [None, SCORES, SCORES]


async def test_search_lets_other_work_go_on():
    clock = ManualClock()
    store = MemoryStore(clock)
    await store.open()
    await store.log.append(
        [structs.replace(call, text="x" * 10_000) for call in calls(TimeIds(clock), 1_000)]
    )
    for search in (store.log.summary(LogQuery(contains="y")), store.log.read(LogQuery(contains="y"))):
        searching, turns = asyncio.create_task(search), 0
        while not searching.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 100, "ten million characters are searched in a hundred parts"


async def test_search_goes_on_behind_rows_deleted_meanwhile():
    clock = ManualClock()
    store = MemoryStore(clock)
    await store.open()
    written = [structs.replace(call, text="x" * 10_000) for call in calls(TimeIds(clock), 100)]
    await store.log.append([structs.replace(call, caller="ab"[n % 2]) for n, call in enumerate(written)])
    counting = asyncio.create_task(store.log.summary(LogQuery(caller="b", contains="x")))
    await asyncio.sleep(0)
    assert not counting.done()
    assert await store.log.delete_caller("a") == 50
    assert sum(one.count for one in await counting) == 50


async def test_memory_log_is_bounded_by_bytes():
    clock = ManualClock()
    store = MemoryStore(clock, max_bytes=100_000)
    await store.open()
    ids = TimeIds(clock)
    large = [structs.replace(one, text="x" * 20_000) for one in calls(ids, 20)]
    for one in large:
        await store.log.append([one])
    assert await everything(store) == large[-4:]
    small = calls(ids, 150)
    await store.log.append(small)
    assert await everything(store) == [*large[-1:], *small]
    await store.log.delete_caller("10.0.0.1")
    await store.log.append(large[:4])
    assert await everything(store) == large[:4], "deleted rows count no more"
