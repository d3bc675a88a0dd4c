"""Files and keyspaces that earlier versions wrote: migrated by name, or refused in one line.

`versions/write_2026_11.py` wrote the files with the code of November 2026.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import msgspec
import pytest

from tamis.clock import SystemClock
from tamis.errors import StoreError
from tamis.storage import CallRecord, FileSpool, LogQuery, TimeIds, make_store, pages
from tamis.storage.spool import MIGRATIONS as SPOOL_MIGRATIONS
from tamis.storage.sqlite.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from tests.support.store_samples import call, run

VERSIONS = Path(__file__).parent / "versions"
MODEL = "3f2a" * 16
WRITTEN = [
    ("10.0.0.1", "WIN a FREE phone, text CLAIM now", "spam", 0.97, False),
    ("10.0.0.1", "WIN a FREE phone, text CLAIM now", "spam", 0.97, True),
    ("10.0.0.1", "shall we meet at noon?", "ham", 1 / 3, False),
    ("alice", "nul \0, line\nbreak, quote ' and \u00e9\U0001f600", "ham", 0.1 + 0.2, False),
    ("alice", "", "ham", 1.0, True),
]


def check_rows(rows: list[CallRecord]) -> None:
    """Compare rows with what the old version wrote, field by field."""
    found = [(row.caller, row.text, row.label, row.score, row.from_cache) for row in rows]
    assert found == WRITTEN
    assert {row.model for row in rows} == {MODEL}
    assert {(row.decision, row.model_name, row.model_version) for row in rows} == {(None, None, None)}


async def everything(url: str) -> list[CallRecord]:
    store = make_store(url, SystemClock())
    await store.open()
    try:
        return [row async for page in pages(store.log, LogQuery(), limit=2) for row in page]
    finally:
        await store.close()


async def test_store_file_of_version_2_keeps_every_field(tmp_path: Path) -> None:
    path = tmp_path / "tamis.db"
    shutil.copy(VERSIONS / "store-2.db", path)
    store = make_store(f"sqlite:///{path}", SystemClock())
    assert await store.migrate() == ["add_prediction_columns", "create_feedback"]
    assert await store.migrate() == []
    check_rows(await everything(f"sqlite:///{path}"))
    await store.open()
    new = call(TimeIds(SystemClock()), decision="spam", model_name="spam", model_version="7")
    await store.log.append([new])
    assert await store.log.find(new.id) == new
    await store.close()


async def test_store_file_keeps_its_secret_when_migrated(tmp_path: Path) -> None:
    path = tmp_path / "tamis.db"
    shutil.copy(VERSIONS / "store-2.db", path)
    before = apsw.Connection(str(path)).execute("SELECT value FROM meta WHERE name = 'secret'").get
    store = make_store(f"sqlite:///{path}", SystemClock())
    await store.open()
    assert store.cache.secret == before
    await store.close()


@pytest.mark.parametrize("version", range(SCHEMA_VERSION))
def test_store_file_of_any_version_has_the_tables_of_a_new_one(tmp_path: Path, version: int) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    connection = apsw.Connection(str(old))
    for step in MIGRATIONS[:version]:
        step(connection)
    if version:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}")
    connection.close()

    async def test() -> None:
        ran = await make_store(f"sqlite:///{old}", SystemClock()).migrate()
        assert ran == [step.__name__ for step in MIGRATIONS[version:]]
        await make_store(f"sqlite:///{new}", SystemClock()).migrate()

    run(test)
    tables = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    assert [*apsw.Connection(str(old)).execute(tables)] == [*apsw.Connection(str(new)).execute(tables)]


async def test_columns_are_read_by_name_whatever_their_order(tmp_path: Path) -> None:
    path = tmp_path / "tamis.db"
    shutil.copy(VERSIONS / "store-2.db", path)
    connection = apsw.Connection(str(path))
    connection.execute(
        """
        CREATE TABLE other (score REAL NOT NULL, from_cache INTEGER NOT NULL, label TEXT NOT NULL,
            id BLOB PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, caller TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        INSERT INTO other SELECT score, from_cache, label, id, model, text, caller FROM calls;
        DROP TABLE calls;
        ALTER TABLE other RENAME TO calls;
        """
    )
    connection.close()
    check_rows(await everything(f"sqlite:///{path}"))


def test_spool_file_of_version_1_keeps_every_field(tmp_path: Path) -> None:
    path = tmp_path / "spool.tamis"
    shutil.copy(VERSIONS / "spool-1.db", path)

    async def test() -> None:
        spool = FileSpool(path)
        await spool.open()
        assert len(spool) == len(WRITTEN)
        check_rows(await spool.oldest(100))
        await spool.put([call(TimeIds(SystemClock()), decision="ham")])
        await spool.close()
        await spool.open()
        assert (len(spool), (await spool.oldest(100))[-1].decision) == (len(WRITTEN) + 1, "ham")
        await spool.close()

    run(test)
    [(message,)] = apsw.Connection(str(path)).execute("SELECT call FROM spool ORDER BY id LIMIT 1")
    assert msgspec.msgpack.decode(message)["text"] == WRITTEN[0][1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (f"PRAGMA user_version = {len(SPOOL_MIGRATIONS) + 1}", "was written by a newer Tamis"),
        ("CREATE TABLE theirs (a)", "an SQLite file of another program"),
        ("PRAGMA user_version = 0", "an SQLite file of another program"),
    ],
)
def test_spool_file_of_another_kind_is_refused(tmp_path: Path, spoil: str, message: str) -> None:
    path = tmp_path / "spool.tamis"
    shutil.copy(VERSIONS / "spool-1.db", path)
    connection = apsw.Connection(str(path))
    connection.execute(spoil)
    connection.close()

    async def test() -> None:
        with pytest.raises(StoreError, match=message) as refused:
            await FileSpool(path).open()
        assert "\n" not in str(refused.value)

    run(test)
    rows = apsw.Connection(str(path)).execute("SELECT count(*) FROM spool").get
    assert rows == len(WRITTEN)
