from __future__ import annotations

from fakes import ManualClock
from store_samples import SCORES, calls, everything, key, run

from tamis.storage import StoreOptions, TimeIds
from tamis.storage.memory import MemoryStore


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
