"""The stores that must pass the contract suites; a new one joins by one line in `STORES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tamis.clock import Clock
from tamis.storage import (
    ClusterOptions,
    FileSpool,
    MemorySpool,
    ResilientStore,
    Store,
    StoreOptions,
    TimeIds,
    make_store,
)
from tests.support.fakes import ManualClock
from tests.support.store_samples import (
    database,
    run,
)

PATIENT = ClusterOptions(
    deadline_seconds=10, cache_deadline_seconds=5, connect_seconds=30, cache_consistency="LOCAL_QUORUM"
)
"""Three nodes share two cores; one replica alone may not yet have what was just remembered."""

MakeStore = Callable[[Clock, StoreOptions | None], Store]

STORES = [
    "memory",
    "sqlite",
    "sqlite-full",
    "resilient",
    "resilient-file",
    pytest.param("cassandra", marks=pytest.mark.cassandra),
    pytest.param("resilient-cassandra", marks=pytest.mark.cassandra),
]


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    url = "memory:" if request.param == "memory" else f"sqlite:///{database(tmp_path)}"
    if "cassandra" in request.param:
        url = request.getfixturevalue("empty_keyspace")

    def make_one(clock: Clock, options: StoreOptions | None = None) -> Store:
        kind, _, variant = request.param.partition("-")
        if variant == "full":
            options = replace(options or StoreOptions(), full_durability=True)
        options = replace(options or StoreOptions(), cluster=PATIENT)
        store = make_store(url, clock, options)
        if kind != "resilient":
            return store
        spool = FileSpool(tmp_path / "spool.db") if variant == "file" else MemorySpool()
        return ResilientStore(store, spool, clock)

    return make_one


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def check(make: MakeStore, clock: ManualClock) -> Callable[..., None]:
    """Run a test's body with an open store and ids."""

    def with_store(body: Callable[..., object], options: StoreOptions | None = None) -> None:
        async def test() -> None:
            store = make(clock, options)
            await store.open()
            try:
                await body(store, TimeIds(clock))  # type: ignore[misc]
            finally:
                await store.close()

        run(test)

    return with_store
