"""Fixtures that every step's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from tests.cassandra.cluster import Cluster

settings.register_profile("tamis", deadline=None)  # a busy machine proves nothing
settings.load_profile("tamis")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout, or the one `TAMIS_SHARED` names; skip without it."""
    shared = os.environ.get("TAMIS_SHARED") or Path(__file__).parents[2] / "shared"
    folder = Path(shared) / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set TAMIS_SHARED")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep JAX's compilation cache away from the user's, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three real Cassandra nodes, started once; skip where this machine lacks what they need."""
    from tests.cassandra.cluster import Cluster, ClusterUnavailable
    from tests.cassandra.keyspaces import add_users

    try:
        three_nodes = Cluster()
    except ClusterUnavailable as missing:
        pytest.skip(str(missing))
    with three_nodes:
        add_users(three_nodes)
        yield three_nodes


@pytest.fixture(scope="session")
def keyspace(cluster: Cluster) -> str:
    """The URL of a store whose tables are made, three copies of each row."""
    from tests.cassandra.keyspaces import migrate, url_of

    migrate(url_of(cluster, "tamis"))
    return url_of(cluster, "tamis")


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Iterator[Session]:
    """A bare session of the driver, as an operator has in cqlsh."""
    from tests.cassandra.keyspaces import admin

    with admin(cluster) as session:
        yield session


@pytest.fixture
def empty_keyspace(cluster: Cluster, keyspace: str, operator: Session) -> str:
    """The URL of a store without rows, all of its nodes up."""
    from tests.cassandra.keyspaces import truncate

    cluster.restore()
    truncate(operator, "tamis")
    return keyspace
