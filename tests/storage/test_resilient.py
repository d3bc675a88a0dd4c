"""How a store goes on without its database, shown with one that fails on demand and a clock moved by hand."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import SCORES, call, calls, everything, key, run

from tamis.errors import STORE_FAULTS, StoreError
from tamis.storage import Counters, FileSpool, MemorySpool, ResilientStore, Spool, Store, TimeIds
from tamis.storage.base import NO_ANSWERS, PAGE_ROWS
from tamis.storage.memory import MemoryStore
from tests.support.fakes import ManualClock


class FailingStore(Store):
    """A store in memory that fails, hangs or fails half-way when told to."""

    def __init__(self, clock):
        self._store = MemoryStore(clock)
        self.is_away = False
        self.loses_replies = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.attempts = 0

    async def _reach(self):
        await self.gate.wait()
        if self.is_away:
            raise StoreError("the database is away")

    async def open(self):
        self.attempts += 1
        await self._reach()
        await self._store.open()

    async def close(self):
        await self._store.close()

    async def migrate(self):
        await self._reach()

    async def check(self):
        await self._reach()
        return await self._store.check()

    @property
    def secret(self):
        if self.is_away:
            raise StoreError("the database is away")
        return self._store.secret

    async def get_many(self, keys):
        await self._reach()
        return await self._store.get_many(keys)

    async def append(self, calls, answers=NO_ANSWERS):
        await self._reach()
        await self._store.append(calls, answers)
        if self.loses_replies:
            self.loses_replies = False
            raise StoreError("written, but nobody heard")

    async def calls(self, query, *, after=None, limit=PAGE_ROWS):
        await self._reach()
        return await self._store.calls(query, after=after, limit=limit)

    async def summary(self, query):
        await self._reach()
        return await self._store.summary(query)

    async def delete_before(self, moment):
        return await self._store.delete_before(moment)

    async def delete_caller(self, caller):
        return await self._store.delete_caller(caller)


class FailingSpool(Spool):
    """A spool in memory, one of whose operations fails when told to."""

    def __init__(self):
        self._spool = MemorySpool()
        self.broken = ""

    @property
    def path(self):
        return self._spool.path

    def _check(self, operation):
        if self.broken == operation:
            raise StoreError("the spool's disk fails")

    async def open(self):
        await self._spool.open()

    async def close(self):
        await self._spool.close()

    def __len__(self):
        return len(self._spool)

    async def put(self, calls):
        return await self._spool.put(calls)

    async def oldest(self, limit):
        self._check("oldest")
        return await self._spool.oldest(limit)

    async def remove(self, calls):
        self._check("remove")
        await self._spool.remove(calls)


def with_store(body, *, spool=None, opens=True, **options):
    async def test():
        clock = ManualClock()
        inner = FailingStore(clock)
        store = ResilientStore(inner, MemorySpool() if spool is None else spool, clock, **options)
        if opens:
            await store.open()
        try:
            await body(store, inner, clock)
        finally:
            inner.is_away = False
            inner.gate.set()
            await store.close()

    run(test)


async def come_back(store, inner, clock):
    await clock.sleeper()  # it has tried once, in vain
    inner.is_away = False
    clock.advance(1.0)
    await store.wait_healthy()


def test_calls_wait_while_the_store_is_away_and_arrive_once():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        before, during, after = calls(ids, 3), calls(ids, 1_700), calls(ids, 2)
        await store.append(before)
        inner.is_away = True
        for one in during:
            await store.append([one])
        assert store.counters == Counters(accepted=1_703, written=3, spooled=1_700)
        assert (store.is_degraded, store.fault) == (True, "the database is away")
        await come_back(store, inner, clock)
        await store.append(after)
        assert store.counters == Counters(accepted=1_705, written=1_705)
        assert (store.is_degraded, store.fault) == (False, None)
        assert await everything(store) == [*before, *during, *after]

    with_store(body)


def test_calls_beyond_the_spools_bound_are_counted_as_dropped():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        await store.append(calls(ids, 25))
        assert store.counters == Counters(accepted=25, spooled=10, dropped=15)
        await come_back(store, inner, clock)
        assert store.counters == Counters(accepted=25, written=10, dropped=15)

    with_store(body, spool=MemorySpool(max_rows=10))


def test_a_write_whose_reply_was_lost_is_sent_again_and_is_there_once():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.loses_replies = True
        written = calls(ids, 5)
        await store.append(written)
        await store.wait_healthy()
        assert store.counters == Counters(accepted=5, written=5)
        assert await everything(store) == written

    with_store(body)


def test_the_cache_is_empty_while_the_store_is_away_and_back_after():
    async def body(store, inner, clock):
        await store.append([], {key(1): SCORES})
        inner.is_away = True
        assert await store.get_many([key(1), key(2)]) == [None, None]
        await come_back(store, inner, clock)
        assert await store.get_many([key(1)]) == [SCORES]

    with_store(body)


def test_reading_the_log_says_that_the_store_is_away():
    async def body(store, inner, clock):
        inner.is_away = True
        with pytest.raises(StoreError, match="away"):
            await everything(store)

    with_store(body)


def test_it_tries_again_at_its_own_pace():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        for one in calls(ids, 50):
            await store.append([one])
        for attempts in range(2, 6):
            await clock.sleeper()
            assert inner.attempts == attempts, "appends do not try the store"
            clock.advance(1.0)

    with_store(body)


def test_a_cancelled_append_is_counted_and_logged_once():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.gate.clear()
        task = asyncio.create_task(store.append(calls(ids, 2)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        inner.gate.set()
        while store.counters.accepted < 2:
            await asyncio.sleep(0)
        await store.wait_healthy()
        assert store.counters == Counters(accepted=2, written=2)
        assert len(await everything(store)) == 2

    with_store(body)


def test_it_does_not_start_without_its_store_unless_told_so():
    async def body(store, inner, clock):
        inner.is_away = True
        with pytest.raises(StoreError, match="away"):
            await store.open()

    with_store(body, opens=False)


def test_it_starts_without_its_store_when_told_so():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        await store.open()
        alone = store.secret
        await store.append(calls(ids, 3))
        await come_back(store, inner, clock)
        assert store.counters == Counters(accepted=3, written=3)
        assert store.secret not in (alone, b"")

    with_store(body, opens=False, may_start_without=True)


def test_calls_in_a_file_outlive_the_process_and_the_counters_add_up(tmp_path):
    async def first(store, inner, clock):
        inner.is_away = True
        await store.append(calls(TimeIds(clock), 4))
        inner.gate.clear()  # the process ends before the store returns
        store._healing.cancel()
        await store._spool.close()
        store._healing = None

    async def second(store, inner, clock):
        await store.wait_healthy()
        assert store.counters == Counters(accepted=4, written=4)
        assert len(await everything(store)) == 4

    with_store(first, spool=FileSpool(tmp_path / "spool.db"))
    with_store(second, spool=FileSpool(tmp_path / "spool.db"))


def test_counters_go_on_from_those_of_a_process_that_was_killed(tmp_path):
    """It had accepted 12 calls: 6 are written, 1 is dropped, 2 wait in a file, 3 were in its memory only."""
    numbers = [12.0, 6.0, 5.0, 1.0, 1.0, *(0.0 for _ in STORE_FAULTS)]
    waiting = FileSpool(tmp_path / "spool.db")

    async def killed():
        await waiting.open()
        await waiting.put(calls(TimeIds(ManualClock()), 2))
        await waiting.close()

    async def body():
        inner, clock = FailingStore(ManualClock()), ManualClock()
        inner.is_away = True
        store = ResilientStore(inner, waiting, clock, may_start_without=True)
        store.count_in(numbers)
        await store.open()
        assert store.counters == Counters(accepted=12, written=6, spooled=2, dropped=4)
        assert numbers[:5] == [12, 6, 2, 4, 1]
        await clock.sleeper()
        inner.is_away = False
        clock.advance(1.0)
        await store.wait_healthy()
        assert numbers[:5] == [12, 8, 0, 4, 0]
        await store.append(calls(TimeIds(clock), 3))
        assert numbers[:5] == [15, 11, 0, 4, 0]
        await store.close()

    run(killed)
    run(body)


def test_closing_sends_what_waits():
    async def body(store, inner, clock):
        inner.is_away = True
        await store.append(calls(TimeIds(clock), 4))
        await clock.sleeper()
        inner.is_away = False
        await store.close()
        assert store.counters == Counters(accepted=4, written=4)

    with_store(body)


def test_a_spool_that_fails_too_drops_the_calls_and_says_so(tmp_path):
    spool = FileSpool(tmp_path / "spool.db")

    async def body(store, inner, clock):
        inner.is_away = True
        await spool.close()
        await store.append(calls(TimeIds(clock), 4))
        assert store.counters == Counters(accepted=4, dropped=4)
        await come_back(store, inner, clock)

    with_store(body, spool=spool)


@pytest.mark.parametrize("broken", ["oldest", "remove"])
def test_a_spool_that_fails_while_sending_stops_no_new_call_and_doubles_none(broken):
    spool = FailingSpool()

    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        waiting = calls(ids, 3)
        await store.append(waiting)
        await clock.sleeper()
        spool.broken, inner.is_away = broken, False
        clock.advance(1.0)
        await clock.sleeper()
        one = call(ids)
        await store.append([one])
        assert store.counters == Counters(accepted=4, written=1, spooled=3)
        assert (store.is_degraded, store.fault) == (True, None)
        spool.broken = ""
        clock.advance(1.0)
        await store.wait_healthy()
        assert store.counters == Counters(accepted=4, written=4)
        assert await everything(store) == [*waiting, one]

    with_store(body, spool=spool)


def test_a_callers_rows_are_not_deleted_while_some_still_wait():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        await store.append([call(ids)])
        with pytest.raises(StoreError, match="still wait"):
            await store.delete_caller("10.0.0.1")
        await come_back(store, inner, clock)
        assert await store.delete_caller("10.0.0.1") == 1

    with_store(body)
