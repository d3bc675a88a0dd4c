"""Fixtures that every step's tests share, and how `make test` divides the tests among processes."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.nodeid import coerce_node_id
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from tests.support.cassandra_cluster import Cluster

settings.register_profile("tamis", deadline=None)  # a busy machine proves nothing
settings.load_profile("tamis")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores Ctrl-C
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what runs under nohup ignores this one

# hundreds of processes import the package: none but the first should compile it
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads for such small matrices wait for one another

_LEARNS_NETWORKS = (
    "tests/cli/test_networks.py",
    "tests/cli/test_progress.py",
    "tests/inference/test_onnx.py",
    "tests/artifact/keras_import/",
    "tests/artifact/onnx_export/",
    "tests/training/tuning/test_search.py",
    "tests/training/test_resuming.py",
    "tests/training/test_slow_models.py",
    "tests/training/trainers/lstm/",
)


_FROZEN = pytest.StashKey[int]()
_TURN = "PYTEST_TURN_FILE"
_ALONE_IDS = "PYTEST_ALONE_IDS_FILE"
"""Names a file in which the processes that collect list what is alone: the scheduler knows no markers."""


class FileScheduling(LoadScopeScheduling):
    """Lets one process have all of a file, of all files that learn networks, and of all tests marked `alone`.

    If the last were divided, each would wait for what the other process is running. What a file's tests
    share is made once, and what JAX compiles is compiled once. Not `--dist loadgroup`: xdist 3.8 writes the
    group into an attribute that pytest 9 no longer has, and spreads every test alone.
    """

    @cached_property
    def _alone(self) -> set[str]:
        return {*Path(os.environ[_ALONE_IDS]).read_text("utf-8").splitlines()}

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if nodeid in self._alone:
            return "alone"
        if file == "tests/test_docs.py":  # its pages share nothing, and some take long
            return nodeid
        return "networks" if _learns_networks(nodeid) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Divide the tests among processes by file, in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Name the files that processes share: the lock of all that `.ci/run` starts, and this run's list."""
    if config.getoption("numprocesses", None):
        folder = tempfile.TemporaryDirectory(prefix="tamis-turn-")
        config.add_cleanup(folder.cleanup)
        os.environ.setdefault(_TURN, str(Path(folder.name) / "turn"))
        os.environ[_ALONE_IDS] = str(Path(folder.name) / "alone")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test marked `alone` run, with its fixtures, while no other process runs any."""
    if _TURN not in os.environ:
        return (yield)
    with open(os.environ[_TURN], "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough while a forked child has it open


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the networks, the longest group, begin, and what wants the machine for itself come last."""
    items.sort(key=lambda item: (_is_alone(item), not _learns_networks(item.nodeid)))
    _number_equal_ids(items)
    if _ALONE_IDS in os.environ:
        alone = [item.nodeid for item in items if _is_alone(item)]
        # replaced whole: the other processes write the same, and one of them may be reading by then
        unfinished = Path(f"{os.environ[_ALONE_IDS]}.{os.getpid()}")
        unfinished.write_text("\n".join(alone), "utf-8")
        unfinished.replace(os.environ[_ALONE_IDS])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector look at what tests make, not at all that was imported and collected before."""
    gc.collect()
    gc.freeze()
    session.config.stash[_FROZEN] = gc.get_freeze_count()


def _number_equal_ids(items: list[pytest.Item]) -> None:
    """Tell apart what schemathesis gives one id: of equal ids, xdist's scheduler runs only one test."""
    seen: Counter[str] = Counter()
    for item in items:
        seen[item.nodeid] += 1
        if seen[item.nodeid] > 1:
            item._id = coerce_node_id(f"{item.nodeid}[{seen[item.nodeid]}]")


def _learns_networks(nodeid: str) -> bool:
    return nodeid.startswith(_LEARNS_NETWORKS)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of async tests."""
    return "asyncio"


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
    """Use a compilation cache of JAX that is not the user's, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        if backend := sys.modules.get("tamis.training.trainers.lstm.keras_backend"):
            backend.prepare_keras()  # also for tests that only use Keras
        yield


@pytest.fixture(scope="module", autouse=True)
def freed_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Free what caches and the collector keep of a file's tests.

    FastAPI remembers 4,096 endpoints, and with each an application, 3 to 5 MB; JAX remembers every program,
    which the next file finds on disk (`own_cache`); a service that starts here freezes all objects.
    """
    yield
    fastapi, jax = map(sys.modules.get, ("fastapi.dependencies.models", "jax"))
    for found in vars(fastapi).values() if fastapi is not None else ():
        if hasattr(found, "cache_clear"):
            found.cache_clear()
    if jax is not None:
        jax.clear_caches()
    if gc.get_freeze_count() > request.config.stash[_FROZEN]:
        gc.unfreeze()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # compiling leaves tens of megabytes free that malloc keeps
    gc.freeze()
    request.config.stash[_FROZEN] = gc.get_freeze_count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three real Cassandra nodes, started once; skip where this machine lacks what they need."""
    from tests.support.cassandra_cluster import Cluster, ClusterUnavailable
    from tests.support.keyspaces import add_users

    try:
        three_nodes = Cluster()
    except ClusterUnavailable as missing:
        pytest.skip(str(missing))
    with pytest.MonkeyPatch.context() as patch:
        # compiling Java a second time takes minutes of processor time, and these nodes live no longer
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
        with three_nodes:
            add_users(three_nodes)
            yield three_nodes


@pytest.fixture(scope="session")
def keyspace(cluster: Cluster) -> str:
    """The URL of a store whose tables are made, three copies of each row."""
    from tests.support.keyspaces import migrate, url_of

    migrate(url_of(cluster, "tamis"))
    return url_of(cluster, "tamis")


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Iterator[Session]:
    """A bare session of the driver, as an operator has in cqlsh."""
    from tests.support.keyspaces import admin

    with admin(cluster) as session:
        yield session


@pytest.fixture
def empty_keyspace(cluster: Cluster, keyspace: str, operator: Session) -> str:
    """The URL of a store without rows, all of its nodes up."""
    from tests.support.keyspaces import truncate

    cluster.restore()
    truncate(operator, "tamis")
    return keyspace
