"""What only the SQLite store promises: its file, its locks, its upkeep."""

from __future__ import annotations

import asyncio
import stat

import apsw
import pytest

from tamis.clock import SystemClock
from tamis.errors import StoreError
from tamis.storage import LogQuery, StoreOptions, TimeIds
from tamis.storage.sqlite import SqliteStore
from tamis.storage.sqlite.connection import Worker
from tamis.storage.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION, create_tables
from tests.support.store_samples import SCORES, call, calls, database, everything, key, run


@pytest.fixture
def path(tmp_path):
    return database(tmp_path)


def with_store(path, body, options=None, clock=None):
    async def test():
        store = SqliteStore(path, clock or SystemClock(), options)
        await store.open()
        try:
            await body(store, TimeIds(SystemClock()))
        finally:
            await store.close()

    run(test)


def rows_in(path, table="calls"):
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    count = connection.execute(f"SELECT count(*) FROM {table}").get
    connection.close()
    return count


def test_the_file_is_its_owners_alone(path):
    async def body(store, ids):
        await store.log.append(calls(ids, 1))
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    with_store(path, body)


def test_rows_of_one_append_share_a_transaction(path):
    async def body(store, ids):
        watcher = apsw.Connection(str(path))
        before = watcher.pragma("data_version")
        await store.log.append(calls(ids, 50))
        assert watcher.pragma("data_version") == before + 1
        watcher.close()

    with_store(path, body)


@pytest.mark.parametrize("is_alone", [False, True])
def test_answers_are_known_at_once_and_after_a_restart(path, is_alone):
    async def body(store, ids):
        await store.log.append(calls(ids, 1))
        await store.cache.put_many({key(1): SCORES})
        assert await store.cache.get_many([key(1)]) == [SCORES]
        await store.cache.put_many({key(2): SCORES})

    with_store(path, body, StoreOptions(is_alone=is_alone))

    async def again(store, ids):
        assert await store.cache.get_many([key(1), key(2), key(3)]) == [SCORES, SCORES, None]

    with_store(path, again)


def test_store_of_several_workers_finds_another_workers_answer(path):
    async def body(store, ids):
        other = SqliteStore(path, SystemClock())
        await other.open()
        await store.cache.put_many({key(1): SCORES})
        while await other.cache.get_many([key(1)]) != [SCORES]:
            await asyncio.sleep(0)
        await other.close()

    with_store(path, body)


def test_answers_are_written_soon_by_another_thread(path):
    async def body(store, ids):
        file = path.with_name("tamis.db-cache128")
        for answers in ({key(0): SCORES}, {key(i): SCORES for i in range(1, 600)}):
            await store.cache.put_many(answers)
            while not all(one in file.read_bytes() for one in answers):
                await asyncio.sleep(0)

    with_store(path, body, StoreOptions(is_alone=True))


def test_sqlite_foreign_lock_keeps_the_loop_free(path):
    async def body(store, ids):
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(store.log.append([one])) for one in calls(ids, 3)]
        for _ in range(100):  # the loop turns while the rows wait
            await asyncio.sleep(0)
        late = asyncio.create_task(store.log.append([call(ids, "late")]))
        assert not any(task.done() for task in waiting)
        assert await store.cache.get_many([key(1)]) == [None]
        assert await everything(store) == []
        other.execute("COMMIT")
        await asyncio.gather(*waiting, late)
        assert len(await everything(store)) == 4
        other.close()

    with_store(path, body, StoreOptions(lock_seconds=20))


def test_a_lock_that_does_not_open_fails_all_who_wait_for_it(path):
    async def body(store, ids):
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(store.log.append([one])) for one in calls(ids, 2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(store.log.append([call(ids)])))
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, StoreError)
            assert "locked by another process" in str(outcome)
        other.execute("ROLLBACK")
        await store.log.append([call(ids)])
        assert len(await everything(store)) == 1
        other.close()

    with_store(path, body, StoreOptions(lock_seconds=0.05))


def test_sqlite_first_schema_keeps_calls_and_drops_the_cache(path):
    connection = apsw.Connection(str(path))
    create_tables(connection)
    connection.execute(
        f"""
        INSERT INTO calls VALUES (x'{bytes(16).hex()}', 'ann', 'kept', 'ham', 0.5, 'm', 0);
        INSERT INTO cache (key, scores, expires_at) VALUES (x'{key(1).hex()}', '{{"ham":1.0}}', 4102444800);
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = 1;
        """
    )
    secret = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    connection.close()

    async def body(store, ids):
        assert [one.text for one in await everything(store)] == ["kept"]
        assert await store.cache.get_many([key(1)]) == [None]
        assert (store.cache.secret, (await store.check()).schema_version) == (secret, SCHEMA_VERSION)

    with_store(path, body)


def test_the_wal_is_written_back_while_the_store_is_used(path):
    async def body(store, ids):
        for _ in range(60):
            await store.log.append([call(ids, "x" * 20_000) for _ in range(10)])
        wal = path.with_name(path.name + "-wal")
        await store.checkpoint()
        before = wal.stat().st_size
        for _ in range(20):
            await store.log.append(calls(ids, 10))
        assert wal.stat().st_size == before, "after a checkpoint the WAL begins anew"

    with_store(path, body)


def test_a_wal_beyond_its_bound_begins_anew(path):
    wal = path.with_name(path.name + "-wal")

    async def body(store, ids):
        await store.log.append([call(ids, "x" * 2**20) for _ in range(70)])
        await store.checkpoint()
        before = wal.stat().st_size
        await store.log.append([call(ids, "x" * 2**20) for _ in range(60)])
        assert wal.stat().st_size == before
        assert len(await everything(store, limit=10)) == 130

    with_store(path, body)


def test_a_deleted_callers_text_is_in_no_file(path):
    async def body(store, ids):
        await store.log.append([call(ids, "a most personal text")])
        await store.log.append([call(ids, "kept", caller="bob")])
        assert b"most personal" in b"".join(file.read_bytes() for file in path.parent.iterdir())
        await store.log.delete_caller("10.0.0.1")
        assert b"most personal" not in b"".join(file.read_bytes() for file in path.parent.iterdir())

    with_store(path, body)


def test_a_page_that_is_not_read_on_holds_no_transaction(path):
    async def body(store, ids):
        await store.log.append(calls(ids, 100))
        await store.log.read(LogQuery(), limit=10)
        other = apsw.Connection(str(path))
        await store.log.append(calls(ids, 1))
        busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        assert busy == 0
        other.close()

    with_store(path, body)


async def test_sqlite_closed_thread_is_reported_to_its_reader(path):
    worker = Worker("test", lambda: apsw.Connection(":memory:"))
    assert await worker.run(lambda connection: connection.execute("SELECT 1").get) == 1
    await worker.close()
    with pytest.raises(StoreError, match="closed meanwhile"):
        await worker.run(lambda connection: connection.execute("SELECT 1").get)


def test_full_durability_waits_for_the_disk(path):
    assert_synchronous = {}

    async def body(store, ids):
        assert_synchronous["full"] = await store._keeper.current.writer.run(lambda c: c.pragma("synchronous"))

    with_store(path, body, StoreOptions(full_durability=True))
    assert assert_synchronous == {"full": 2}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            f"PRAGMA user_version = {SCHEMA_VERSION + 1}; PRAGMA application_id = {APPLICATION_ID}",
            "newer Tamis",
        ),
        ("CREATE TABLE theirs (a)", "another program"),
        ("PRAGMA application_id = 77", "another program"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(path, spoil, message):
    connection = apsw.Connection(str(path))
    connection.execute(spoil)
    connection.close()
    before = path.read_bytes()

    async def test():
        with pytest.raises(StoreError, match=message):
            await SqliteStore(path, SystemClock()).open()

    run(test)
    # the journal mode in the header is all that may differ
    assert [a for a, b in zip(path.read_bytes()[100:], before[100:], strict=True) if a != b] == []


async def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreError, match="nowhere.*cannot be opened"):
        await SqliteStore(tmp_path / "nowhere" / "tamis.db", SystemClock()).open()


def test_migrate_makes_the_tables_and_again_does_nothing(path):
    async def test():
        for _ in range(2):
            await SqliteStore(path, SystemClock()).migrate()

    run(test)
    assert apsw.Connection(str(path)).pragma("user_version") == SCHEMA_VERSION


async def test_sqlite_concurrent_openers_agree_on_tables_and_secret(path):
    stores = [SqliteStore(path, SystemClock()) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.cache.secret for store in stores}) == 1
    for store in stores:
        await store.close()
