"""`tamis_store_failures_total` says why the store failed: each fault made for real under a real service."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.faults import disk_of_8_mb, fill, frozen, locked_by_another_process
from tests.support.processes import Service, serving

Fault = Callable[[Service, Path], AbstractContextManager[None]]


@contextmanager
def _full(service: Service, path: Path) -> Iterator[None]:
    filler = fill(path.parent)
    yield
    filler.unlink()


@contextmanager
def _locked(service: Service, path: Path) -> Iterator[None]:
    with locked_by_another_process(path):
        yield


@contextmanager
def _readonly(service: Service, path: Path) -> Iterator[None]:
    with frozen(path, Path(f"{path}-wal")):
        yield


@contextmanager
def _missing(service: Service, path: Path) -> Iterator[None]:
    for file in path.parent.glob("tamis.db*"):
        file.unlink()
    yield


@contextmanager
def _corrupt(service: Service, path: Path) -> Iterator[None]:
    for file in path.parent.glob("tamis.db*"):
        garbage = path.with_name(f"{file.name}.new")
        garbage.write_bytes(b"garbage " * 10_000)
        garbage.replace(file)
    yield


@contextmanager
def _io(service: Service, path: Path) -> Iterator[None]:
    """Let writes beyond the size that the WAL has now fail, as a broken disk would."""
    size = Path(f"{path}-wal").stat().st_size
    before = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of_8_mb(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_full, "full"),
        (_locked, "locked"),
        (_readonly, "readonly"),
        (_missing, "missing"),
        (_corrupt, "corrupt"),
        (_io, "io"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_store_fault_is_counted_by_its_class(tmp_path: Path, disk: Path, fault: Fault, expected: str) -> None:
    # a tmpfs has no immutable files; every other fault can happen on the small disk
    path = (tmp_path if expected == "readonly" else disk) / "tamis.db"
    with (
        serving(tmp_path, "--mock", "--store", f"sqlite:///{path}", TAMIS_DRAIN_SECONDS="0") as service,
        httpx.Client(base_url=service.address, timeout=30) as client,
    ):
        _log_a_text(client, "before")
        assert _failures(client) == {}
        with fault(service, path):
            _log_until(client, expected)
        assert "other" not in _failures(client)


def _log_until(client: httpx.Client, fault: str) -> None:
    deadline = time.monotonic() + 20
    number = 0
    while time.monotonic() < deadline:
        number += 1
        _log_a_text(client, f"{number} " + "x" * 5_000)
        if _failures(client).get(fault):
            return
    raise AssertionError(_failures(client))


def _log_a_text(client: httpx.Client, text: str) -> None:
    assert client.post("/prediction", json={"text": text}).status_code == 200


def _failures(client: httpx.Client) -> dict[str, int]:
    found = re.findall(
        r'^tamis_store_failures_total\{fault="(\w+)"\} (\d+)$', client.get("/metrics").text, re.MULTILINE
    )
    return {fault: int(number) for fault, number in found if number != "0"}
