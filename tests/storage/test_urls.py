from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from tamis.clock import SystemClock
from tamis.errors import StoreError
from tamis.storage import TimeIds, file_of, make_store, tables_of
from tamis.storage.sqlite.schema import SCHEMA_VERSION, version_of
from tests.support.store_samples import call, database, everything, run


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()

    async def test():
        for url in ("sqlite:///a%20folder/tamis.db", f"sqlite:///{database(tmp_path)}"):
            store = make_store(url, SystemClock())
            await store.open()
            await store.log.append([call(TimeIds(SystemClock()))])
            await store.close()

    run(test)
    assert (tmp_path / "a folder" / "tamis.db").exists()
    assert database(tmp_path).exists()


async def test_memory_needs_no_path():
    store = make_store("memory:", SystemClock())
    await store.open()
    assert await everything(store) == []


@pytest.mark.parametrize(
    "url", ["", "tamis.db", "sqlite:tamis.db", "sqlite:///", "memory:x", "mysql://a:secret@b"]
)
def test_any_other_url_is_refused_without_repeating_it(url):
    with pytest.raises(StoreError, match="use sqlite:///path/file.db, memory:, cassandra") as refused:
        make_store(url, SystemClock())
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["cassandra://user:secret@host/keyspace", "astra:"])
def test_a_cluster_needs_the_extra(url):
    program = f"""
import sys
sys.modules["cassandra"] = None  # as if it were not installed
from tamis.clock import SystemClock
from tamis.errors import MissingExtraError
from tamis.storage import make_store
try:
    make_store({url!r}, SystemClock())
except MissingExtraError as missing:
    print(missing)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.endswith("pip install 'tamis[cassandra]'\n")
    assert "secret" not in told


def test_tables_of_a_cluster_are_shown_without_its_driver():
    shown = tables_of("cassandra://user:secret@host/keyspace?local_dc=dc1")
    assert shown.startswith("CREATE KEYSPACE IF NOT EXISTS keyspace WITH replication = {'class'")
    assert "'dc1': 3}" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a/b.db", Path("a/b.db")),
        ("sqlite:////a%20b.db", Path("/a b.db")),
        ("sqlite:///", None),
        ("memory:", None),
        ("cassandra://host/keyspace", None),
    ],
)
def test_file_of_is_the_path_of_an_embedded_store_only(url: str, path: Path | None):
    assert file_of(url) == path


def test_tables_of_make_the_same_file_as_the_store_does(tmp_path: Path):
    connection = apsw.Connection(str(tmp_path / "by-hand.db"))
    assert connection.execute(tables_of("sqlite:///any.db")).fetchall() == []
    assert version_of(connection) == SCHEMA_VERSION
    assert tables_of("memory:") == ""
