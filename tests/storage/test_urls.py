from __future__ import annotations

from pathlib import Path

import pytest
from store_samples import call, database, everything, run

from tamis.clock import SystemClock
from tamis.errors import MissingExtraError, StoreError
from tamis.storage import TimeIds, make_store


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()

    async def test():
        for url in ("sqlite:///a%20folder/tamis.db", f"sqlite:///{database(tmp_path)}"):
            store = make_store(url, SystemClock())
            await store.open()
            await store.append([call(TimeIds(SystemClock()))])
            await store.close()

    run(test)
    assert (tmp_path / "a folder" / "tamis.db").exists()
    assert database(tmp_path).exists()


def test_memory_needs_no_path():
    async def test():
        store = make_store("memory:", SystemClock())
        await store.open()
        assert await everything(store) == []

    run(test)


@pytest.mark.parametrize(
    "url", ["", "tamis.db", "sqlite:tamis.db", "sqlite:///", "memory:x", "mysql://a:secret@b"]
)
def test_any_other_url_is_refused_without_repeating_it(url):
    with pytest.raises(StoreError, match="use sqlite:///path/file.db or memory:") as refused:
        make_store(url, SystemClock())
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["cassandra://user:secret@host/keyspace", "astra:"])
def test_a_cluster_needs_the_extra(url):
    with pytest.raises(MissingExtraError, match=r"tamis\[cassandra\]"):
        make_store(url, SystemClock())
