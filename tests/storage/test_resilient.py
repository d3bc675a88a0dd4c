"""How a store goes on without its database, shown with one that fails on demand and a clock moved by hand."""

from __future__ import annotations

import asyncio

import pytest

from tamis.errors import StoreError
from tamis.events import Events, StoreStateChanged
from tamis.storage import (
    CallLog,
    Counters,
    FileSpool,
    MemorySpool,
    PredictionCache,
    ResilientStore,
    Spool,
    Store,
    TimeIds,
)
from tamis.storage.memory import MemoryStore
from tamis.storage.query import PAGE_ROWS
from tests.support.fakes import ManualClock
from tests.support.store_samples import SCORES, call, calls, everything, key, run


class Failures:
    """What fails, hangs or fails half-way when a test says so."""

    def __init__(self):
        self.is_away = False
        self.loses_replies = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def pass_or_fail(self):
        await self.gate.wait()
        if self.is_away:
            raise StoreError("the database is away")


class FailingLog(CallLog):
    def __init__(self, inner, failures):
        self._inner, self._failures = inner, failures

    async def append(self, calls):
        await self._failures.pass_or_fail()
        await self._inner.append(calls)
        if self._failures.loses_replies:
            self._failures.loses_replies = False
            raise StoreError("written, but the response was lost")

    async def read(self, query, *, after=None, limit=PAGE_ROWS):
        await self._failures.pass_or_fail()
        return await self._inner.read(query, after=after, limit=limit)

    async def find(self, id, *, caller=None):
        await self._failures.pass_or_fail()
        return await self._inner.find(id, caller=caller)

    async def summary(self, query):
        await self._failures.pass_or_fail()
        return await self._inner.summary(query)

    async def delete_before(self, moment):
        return await self._inner.delete_before(moment)

    async def delete_caller(self, caller):
        return await self._inner.delete_caller(caller)


class FailingCache(PredictionCache):
    def __init__(self, inner, failures):
        self._inner, self._failures = inner, failures

    @property
    def secret(self):
        if self._failures.is_away:
            raise StoreError("the database is away")
        return self._inner.secret

    async def get_many(self, keys):
        await self._failures.pass_or_fail()
        return await self._inner.get_many(keys)

    async def put_many(self, answers):
        await self._failures.pass_or_fail()
        await self._inner.put_many(answers)


class FailingStore(Failures, Store):
    """A store in memory whose parts fail together."""

    def __init__(self, clock):
        super().__init__()
        self._store = MemoryStore(clock)
        self.log = FailingLog(self._store.log, self)
        self.cache = FailingCache(self._store.cache, self)
        self.feedback = self._store.feedback
        self.attempts = 0

    async def open(self):
        self.attempts += 1
        await self.pass_or_fail()
        await self._store.open()

    async def close(self):
        await self._store.close()

    async def migrate(self):
        await self.pass_or_fail()
        return []

    async def check(self):
        await self.pass_or_fail()
        return await self._store.check()


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
        await store.log.append(before)
        inner.is_away = True
        for one in during:
            await store.log.append([one])
        assert store.counters == Counters(accepted=1_703, written=3, spooled=1_700)
        assert (store.is_degraded, store.fault) == (True, "the database is away")
        await come_back(store, inner, clock)
        await store.log.append(after)
        assert store.counters == Counters(accepted=1_705, written=1_705)
        assert (store.is_degraded, store.fault) == (False, None)
        assert await everything(store) == [*before, *during, *after]

    with_store(body)


def test_calls_beyond_the_spools_bound_are_counted_as_dropped():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        await store.log.append(calls(ids, 25))
        assert store.counters == Counters(accepted=25, spooled=10, dropped=15)
        await come_back(store, inner, clock)
        assert store.counters == Counters(accepted=25, written=10, dropped=15)

    with_store(body, spool=MemorySpool(max_rows=10))


def test_write_with_a_lost_reply_is_stored_once():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.loses_replies = True
        written = calls(ids, 5)
        await store.log.append(written)
        await store.wait_healthy()
        assert store.counters == Counters(accepted=5, written=5)
        assert await everything(store) == written

    with_store(body)


def test_cache_of_an_absent_store_is_empty_until_it_returns():
    async def body(store, inner, clock):
        await store.cache.put_many({key(1): SCORES})
        inner.is_away = True
        assert await store.cache.get_many([key(1), key(2)]) == [None, None]
        await come_back(store, inner, clock)
        assert await store.cache.get_many([key(1)]) == [SCORES]

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
            await store.log.append([one])
        for attempts in range(2, 6):
            await clock.sleeper()
            assert inner.attempts == attempts, "appends do not try the store"
            clock.advance(1.0)

    with_store(body)


def test_a_cancelled_append_is_counted_and_logged_once():
    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.gate.clear()
        task = asyncio.create_task(store.log.append(calls(ids, 2)))
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
        alone = store.cache.secret
        await store.log.append(calls(ids, 3))
        await come_back(store, inner, clock)
        assert store.counters == Counters(accepted=3, written=3)
        assert store.cache.secret not in (alone, b"")

    with_store(body, opens=False, may_start_without=True)


def test_spooled_calls_outlive_the_process_and_are_counted(tmp_path):
    async def first(store, inner, clock):
        inner.is_away = True
        await store.log.append(calls(TimeIds(clock), 4))
        inner.gate.clear()  # the process ends before the store returns
        store._reconnecting.cancel()
        await store._outbox.close()
        store._reconnecting = None

    async def second(store, inner, clock):
        await store.wait_healthy()
        assert store.counters == Counters(accepted=4, written=4)
        assert len(await everything(store)) == 4

    with_store(first, spool=FileSpool(tmp_path / "spool.db"))
    with_store(second, spool=FileSpool(tmp_path / "spool.db"))


def test_counters_go_on_from_those_of_a_process_that_was_killed(tmp_path):
    """It had accepted 12 calls: 6 are written, 1 is dropped, 2 wait in a file, 3 were in its memory only."""
    events, seen = Events(), list[StoreStateChanged]()
    events.subscribe(StoreStateChanged, seen.append)
    waiting = FileSpool(tmp_path / "spool.db")

    async def killed():
        await waiting.open()
        await waiting.put(calls(TimeIds(ManualClock()), 2))
        await waiting.close()

    async def body():
        inner, clock = FailingStore(ManualClock()), ManualClock()
        inner.is_away = True
        store = ResilientStore(inner, waiting, clock, may_start_without=True)
        store.emit_to(events, since=Counters(accepted=12, written=6, spooled=5, dropped=1))
        await store.open()
        assert store.counters == Counters(accepted=12, written=6, spooled=2, dropped=4)
        assert seen[-1] == StoreStateChanged(Counters(12, 6, 2, 4), is_degraded=True)
        await clock.sleeper()
        inner.is_away = False
        clock.advance(1.0)
        await store.wait_healthy()
        assert seen[-1] == StoreStateChanged(Counters(12, 8, 0, 4), is_degraded=False)
        await store.log.append(calls(TimeIds(clock), 3))
        assert seen[-1] == StoreStateChanged(Counters(15, 11, 0, 4), is_degraded=False)
        await store.close()

    run(killed)
    run(body)


def test_closing_sends_what_waits():
    async def body(store, inner, clock):
        inner.is_away = True
        await store.log.append(calls(TimeIds(clock), 4))
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
        await store.log.append(calls(TimeIds(clock), 4))
        assert store.counters == Counters(accepted=4, dropped=4)
        await come_back(store, inner, clock)

    with_store(body, spool=spool)


@pytest.mark.parametrize("broken", ["oldest", "remove"])
def test_spool_failing_while_sending_loses_and_doubles_no_call(broken):
    spool = FailingSpool()

    async def body(store, inner, clock):
        ids = TimeIds(clock)
        inner.is_away = True
        waiting = calls(ids, 3)
        await store.log.append(waiting)
        await clock.sleeper()
        spool.broken, inner.is_away = broken, False
        clock.advance(1.0)
        await clock.sleeper()
        one = call(ids)
        await store.log.append([one])
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
        await store.log.append([call(ids)])
        with pytest.raises(StoreError, match="still in the spool"):
            await store.log.delete_caller("10.0.0.1")
        await come_back(store, inner, clock)
        assert await store.log.delete_caller("10.0.0.1") == 1

    with_store(body)
