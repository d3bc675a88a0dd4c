"""Where a commit runs and whom it tells, shown with a write function that only takes notes."""

from __future__ import annotations

import asyncio
import gc
import threading

import apsw
import pytest

from tamis.errors import StoreError
from tamis.storage import TimeIds
from tamis.storage.sqlite.commit import AWAY_SECONDS, MAX_ROWS_ON_LOOP, SLOW_COMMIT_SECONDS, GroupCommit
from tamis.storage.sqlite.connection import Worker
from tests.support.fakes import ManualClock
from tests.support.store_samples import call, calls, run


class Notes:
    """Notes the thread and the rows of every write; takes `seconds`, or fails."""

    def __init__(self, clock):
        self.clock = clock
        self.threads, self.rows = [], []
        self.seconds = 0.0
        self.failure = None

    def write(self, connection, calls):
        self.threads.append("loop" if threading.current_thread() is threading.main_thread() else "writer")
        self.rows.append(len(calls))
        self.clock.advance(self.seconds)
        if self.failure is not None:
            raise self.failure


def with_commit(body, *, only_threaded=False, is_measured=True):
    async def test():
        clock = ManualClock()
        notes = Notes(clock)
        connection, writer = apsw.Connection(":memory:"), Worker("test", lambda: apsw.Connection(":memory:"))
        commit = GroupCommit(connection, writer, notes.write, clock=clock, only_threaded=only_threaded)
        if is_measured:
            await commit.commit([])
            notes.threads.clear()
            notes.rows.clear()
        try:
            await body(commit, notes, clock, TimeIds(clock))
        finally:
            await commit.finish()
            await writer.close()

    run(test)


def test_rows_are_committed_on_the_loop_at_once():
    async def body(commit, notes, clock, ids):
        with pytest.raises(StopIteration):
            commit.commit(calls(ids, 5)).send(None)
        assert (notes.threads, notes.rows) == (["loop"], [5])

    with_commit(body)


def test_full_durability_never_writes_on_the_loop():
    async def body(commit, notes, clock, ids):
        await commit.commit([call(ids)])
        assert notes.threads == ["writer"]

    with_commit(body, only_threaded=True)


def test_a_large_batch_is_left_to_the_writer():
    async def body(commit, notes, clock, ids):
        await commit.commit([call(ids)] * 2_001)
        assert notes.threads == ["writer"]

    with_commit(body)


def test_first_commit_is_measured_by_the_writer():
    async def body(commit, notes, clock, ids):
        for _ in range(3):
            await commit.commit([call(ids)])
        assert notes.threads == ["writer", "loop", "loop"]

    with_commit(body, is_measured=False)


def test_disk_slow_from_the_start_never_stalls_the_loop():
    async def body(commit, notes, clock, ids):
        notes.seconds = 1.2
        for _ in range(20):
            await commit.commit([call(ids)])
        assert notes.threads == ["writer"] * 20

    with_commit(body, is_measured=False)


def test_slow_commit_keeps_the_loop_away_until_the_disk_is_fast():
    async def body(commit, notes, clock, ids):
        notes.seconds = SLOW_COMMIT_SECONDS * 1.1
        await commit.commit([call(ids)])
        clock.advance(AWAY_SECONDS * 10)
        await commit.commit([call(ids)])  # idle time proves nothing: the disk is still slow
        notes.seconds = 0.0
        await commit.commit([call(ids)])
        clock.advance(AWAY_SECONDS)
        for _ in range(2):
            await commit.commit([call(ids)])
        assert notes.threads == ["loop", "writer", "writer", "writer", "loop"]

    with_commit(body)


def test_long_batch_of_many_rows_does_not_count_as_slow():
    async def body(commit, notes, clock, ids):
        notes.seconds = SLOW_COMMIT_SECONDS * 4
        await commit.commit([call(ids)] * (MAX_ROWS_ON_LOOP + 1))
        notes.seconds = 0.0
        await commit.commit([call(ids)])
        assert notes.threads == ["writer", "loop"]

    with_commit(body)


def test_commit_rows_during_a_write_form_the_next_batch():
    async def body(commit, notes, clock, ids):
        waiters = [asyncio.create_task(commit.commit([call(ids)]))]
        await asyncio.sleep(0)
        waiters += [asyncio.create_task(commit.commit([one])) for one in calls(ids, 3)]
        await asyncio.gather(*waiters)
        assert notes.rows == [1, 3]

    with_commit(body, only_threaded=True)


@pytest.mark.parametrize("only_threaded", [False, True])
def test_commit_failure_reaches_every_waiter_of_its_batch(only_threaded):
    async def body(commit, notes, clock, ids):
        notes.failure = apsw.FullError("full")
        waiters = [asyncio.create_task(commit.commit([one])) for one in calls(ids, 3)]
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
        assert "disk is full" in str(outcomes[0])
        notes.failure = None
        await commit.commit([call(ids)])

    with_commit(body, only_threaded=only_threaded)


def test_who_no_longer_waits_disturbs_nobody():
    async def body(commit, notes, clock, ids):
        waiters = [asyncio.create_task(commit.commit([one])) for one in calls(ids, 3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
        assert notes.rows == [1, 2], "its rows are kept all the same"

    with_commit(body, only_threaded=True)


def test_who_commits_on_the_loop_hears_of_an_unforeseen_failure():
    async def body(commit, notes, clock, ids):
        notes.failure = ZeroDivisionError("a fault of ours")
        with pytest.raises(ZeroDivisionError):
            await commit.commit([call(ids)])
        notes.failure = None
        await commit.commit([call(ids)])

    with_commit(body)


def test_commit_unexpected_failure_leaves_no_waiter():
    async def body(commit, notes, clock, ids):
        seen = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: seen.append(context["exception"])
        )
        notes.failure = ZeroDivisionError("a fault of ours")
        with pytest.raises(StoreError, match="unhandled exception, see the log"):
            await commit.commit([call(ids)])
        gc.collect()
        assert seen == [notes.failure], "the loop hears of it too"
        notes.failure = None

    with_commit(body, only_threaded=True)


def test_finish_commits_what_is_waiting():
    async def body(commit, notes, clock, ids):
        waiter = asyncio.create_task(commit.commit([call(ids)]))
        await asyncio.sleep(0)
        await commit.finish()
        await asyncio.sleep(0)
        assert waiter.done()
        assert notes.rows == [1]

    with_commit(body, only_threaded=True)
