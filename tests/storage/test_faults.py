"""The store's faults, each made for real: every append is answered, counters add up, it heals by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tamis.clock import SystemClock
from tamis.errors import StoreError
from tamis.storage import FileSpool, LogQuery, MemorySpool, ResilientStore, StoreOptions, TimeIds
from tamis.storage.sqlite import SqliteStore
from tests.support.faults import disk_of_8_mb, needs_root_command
from tests.support.store_samples import call, calls, database, everything, key, run

pytestmark = pytest.mark.alone

HEALED_WITHIN_SECONDS = 5.0
LONGEST_APPEND_SECONDS = 2.5
"""The lock's patience of one second, twice, and some room for a busy machine."""


def with_store(path, body, *, spool=None, may_start_without=False):
    async def test():
        clock = SystemClock()
        inner = SqliteStore(path, clock, StoreOptions(lock_seconds=0.3))
        spool_or_memory = MemorySpool() if spool is None else spool
        store = ResilientStore(
            inner, spool_or_memory, clock, retry_seconds=0.1, may_start_without=may_start_without
        )
        await store.open()
        try:
            await body(store, TimeIds(clock))
        finally:
            await store.close()

    run(test)


async def append_while_broken(store, ids, *, size=1, accepted=0):
    """Append until the fault is noticed and some more, each answered in time; return what was appended."""
    appended = []
    while store.fault is None or len(appended) < 50:
        one = call(ids, f"text {len(appended)} " + "x" * size)
        started = time.monotonic()
        await store.log.append([one])
        assert time.monotonic() - started < LONGEST_APPEND_SECONDS
        assert await store.cache.get_many([key(1)]) == [None]
        appended.append(one)
        assert_counters_add_up(store, accepted + len(appended))
        assert len(appended) < 20_000, "the fault was never noticed"
    return appended


def assert_counters_add_up(store, accepted):
    counters = store.counters
    assert counters.accepted == accepted
    assert counters.accepted == counters.written + counters.spooled + counters.dropped


async def assert_heals(store, expected):
    async with asyncio.timeout(HEALED_WITHIN_SECONDS):
        await store.wait_healthy()
    assert store.counters.written == len(expected)
    assert await everything(store) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with disk_of_8_mb(tmp_path / "disk") as folder:
        yield folder


def test_a_removed_file_is_made_again(tmp_path):
    path = database(tmp_path)

    async def body(store, ids):
        await store.log.append([call(ids, "lost with the file")])
        for file in tmp_path.iterdir():
            file.unlink()
        appended = [call(ids, f"{i}") for i in range(20)]
        for one in appended:
            await store.log.append([one])
        async with asyncio.timeout(HEALED_WITHIN_SECONDS):
            await store.wait_healthy()
        assert path.exists()
        assert_counters_add_up(store, 21)
        assert await everything(store) == appended

    with_store(path, body)


def test_a_file_replaced_by_another_gets_the_rows_that_follow(tmp_path):
    path = database(tmp_path)

    async def body(store, ids):
        for file in tmp_path.iterdir():
            file.unlink()
        replacement = SqliteStore(path, SystemClock())
        await replacement.open()
        one = call(ids)
        await store.log.append([one])
        await assert_heals(store, [one])
        await replacement.close()

    with_store(path, body)


def test_a_full_disk_stops_no_answer(small_disk):
    filler = small_disk / "filler"

    async def body(store, ids):
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    break
        appended = await append_while_broken(store, ids, size=2_000)
        assert "disk is full" in store.fault
        filler.unlink()
        await assert_heals(store, appended)

    with_store(database(small_disk), body)


def test_a_file_that_may_only_be_read_stops_no_answer(tmp_path):
    path = database(tmp_path)
    frozen = [str(path), f"{path}-wal"]  # stops root too, which chmod does not

    async def body(store, ids):
        first = call(ids, "first")
        await store.log.append([first])
        with needs_root_command("chattr", "+i", *frozen):
            try:
                appended = await append_while_broken(store, ids, accepted=1)
            finally:
                subprocess.run(["chattr", "-i", *filter(os.path.exists, frozen)], check=True)
        await assert_heals(store, [first, *appended])

    with_store(path, body)


LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(5000)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


def test_a_lock_held_by_another_process_stops_no_answer(tmp_path):
    path = database(tmp_path)

    async def body(store, ids):
        with subprocess.Popen(
            [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as locker:
            assert locker.stdout.readline() == b"locked\n"
            appended = await append_while_broken(store, ids)
            assert "locked by another process" in store.fault
            assert store.counters.spooled == len(appended)
            locker.communicate(b"\n")
        await assert_heals(store, appended)

    with_store(path, body)


def test_calls_that_wait_in_a_file_are_sent_when_the_lock_opens(tmp_path):
    path = database(tmp_path)

    async def body(store, ids):
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        appended = await append_while_broken(store, ids)
        other.execute("COMMIT")
        await assert_heals(store, appended)
        other.close()

    with_store(path, body, spool=FileSpool(tmp_path / "spool.db"))


def test_a_damaged_file_is_left_alone_until_it_is_moved_away(tmp_path):
    path = database(tmp_path)
    path.write_bytes(os.urandom(100_000))
    damaged = path.read_bytes()

    async def body(store, ids):
        appended = await append_while_broken(store, ids)
        assert "not an SQLite file; move it away" in store.fault
        assert path.read_bytes() == damaged, "evidence is not touched"
        path.rename(tmp_path / "damaged.db")
        await assert_heals(store, appended)

    with_store(path, body, may_start_without=True)


def test_pages_damaged_under_a_running_store_are_noticed(tmp_path):
    path = database(tmp_path)

    async def body(store, ids):
        await store.log.append(calls(ids, 5_000))
        await store._inner.checkpoint()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with pytest.raises(StoreError, match="damaged"):
            await store.log.read(LogQuery(contains="nowhere"))
        await append_after_damage(store, ids)

    async def append_after_damage(store, ids):
        for i in range(300):
            await store.log.append([call(ids, "x" * 3_000, caller=str(i))])
        assert_counters_add_up(store, 5_300)

    with_store(path, body)


async def test_a_damaged_file_at_the_start_is_one_clear_line(tmp_path):
    path = database(tmp_path)
    path.write_bytes(b"not a database at all, but long enough to be looked at as one" * 100)
    with pytest.raises(StoreError, match=r"tamis\.db: not an SQLite file; move it away"):
        await SqliteStore(path, SystemClock()).open()
