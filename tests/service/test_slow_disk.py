"""A real service on a disk that takes 150 ms a write: no worker is killed, no request cut, no row lost."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import apsw
import httpx
import pytest

from tests.support.faults import SlowDisk, slow_disk
from tests.support.loads import Load
from tests.support.processes import serving

pytestmark = pytest.mark.alone

WRITE_MS = 150
STORE = ("--mock", "--store", "sqlite:///disk/tamis.db")


@pytest.fixture
def disk(tmp_path: Path) -> SlowDisk:
    folder = tmp_path / "disk"
    folder.mkdir()
    return slow_disk(folder, tmp_path)


def logged(path: Path) -> Counter[str]:
    connection = apsw.Connection(str(path))
    rows = Counter(text for (text,) in connection.execute("SELECT text FROM calls"))
    connection.close()
    return rows


@pytest.mark.parametrize("workers", [1, 2])
def test_disk_that_becomes_slow_costs_no_worker_and_no_row(
    tmp_path: Path, disk: SlowDisk, workers: int
) -> None:
    with serving(tmp_path, *STORE, "--workers", str(workers), **disk.environ) as service:
        while len(before := service.workers()) < (workers if workers > 1 else 0):
            time.sleep(0.01)
        load = Load(service.port, "load")
        with load.running() as ledger:
            load.wait_for_more(300)
            disk.slow_down(WRITE_MS)
            load.wait_for_more(100)
            slowest = longest_answer(service.address, seconds=5)
            disk.recover()
            load.wait_for_more(300)
        assert set(ledger.statuses) == {200}
        assert service.workers() == before, service.said
        assert service.stop() == 0
    rows = logged(tmp_path / "disk" / "tamis.db")
    assert [text for text in ledger.acknowledged if rows[text] != 1] == []
    print(f"slowest: /health/live {slowest:.3f} s, prediction {ledger.slowest_seconds:.1f} s")  # noqa: T201
    assert slowest < 1.0, "once the disk is known to be slow, the loop is free"
    assert ledger.slowest_seconds < 30


def test_loop_is_free_on_a_disk_slow_from_the_start(tmp_path: Path, disk: SlowDisk) -> None:
    with serving(tmp_path, *STORE, **disk.environ) as service:
        assert service.stop() == 0  # the tables are made
    disk.slow_down(WRITE_MS)
    with serving(tmp_path, *STORE, **disk.environ) as service:
        load = Load(service.port, "load", connections=4)
        with load.running() as ledger:
            slowest = longest_answer(service.address, seconds=10)
            load.wait_for_more(20)
        assert set(ledger.statuses) == {200}
        assert slowest < 1.0
        disk.recover()
        assert service.stop() == 0
    rows = logged(tmp_path / "disk" / "tamis.db")
    assert [text for text in ledger.acknowledged if rows[text] != 1] == []


def longest_answer(address: str, *, seconds: float) -> float:
    """Ask for what needs no store for some seconds; return the longest that an answer took."""
    longest, end = 0.0, time.monotonic() + seconds
    with httpx.Client(base_url=address, timeout=30) as client:
        while (began := time.monotonic()) < end:
            assert client.get("/health/live").status_code == 200
            longest = max(longest, time.monotonic() - began)
    return longest
