"""That numbers of many processes are exact, survive their process, and are in memory that cannot be cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tamis.service.telemetry.shared_values import LAYOUT_BYTES, SLOTS, SharedValues, make_shared_memory

_LAYOUT = b"x" * LAYOUT_BYTES
_COUNT = """
import sys
from tamis.service.telemetry.shared_values import SharedValues
slots = SharedValues(3, {layout!r}, int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    slots.values[0] += 1.0
    slots.values[2] += 0.5
print(slots.number, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared_fd() -> Iterator[int]:
    fd = make_shared_memory(3)
    yield fd
    os.close(fd)


def _counting(shared_fd: int, times: int, layout: bytes = _LAYOUT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _COUNT.format(layout=layout), str(shared_fd), str(times)],
        pass_fds=[shared_fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _place(process: subprocess.Popen[str]) -> int:
    """Wait until a process has counted; return the number of its slot."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def _totals(slots: SharedValues) -> list[float]:
    return [sum(values) for values in zip(*(found.values for found in slots.snapshots()), strict=True)]


def test_totals_are_exact_when_processes_count_at_the_same_time(shared_fd: int) -> None:
    slots = SharedValues(3, _LAYOUT, shared_fd)
    processes = [_counting(shared_fd, 50_000) for _ in range(4)]
    slots.values[1] = 7.0
    assert sorted(map(_place, processes)) == [1, 2, 3, 4]
    assert _totals(slots) == [200_000, 7, 100_000]
    assert [found.is_alive for found in slots.snapshots()] == [True] * 5
    assert {found.process for found in slots.snapshots()[1:]} == {process.pid for process in processes}
    for process in processes:
        process.communicate()
    assert [found.is_alive for found in slots.snapshots()] == [True, False, False, False, False]
    assert _totals(slots) == [200_000, 7, 100_000]


def test_shared_values_continue_after_a_killed_process(shared_fd: int) -> None:
    slots = SharedValues(3, _LAYOUT, shared_fd)
    for _ in range(5):
        process = _counting(shared_fd, 1_000)
        assert _place(process) == 1
        process.kill()
        process.communicate()
    assert _totals(slots) == [5_000, 0, 2_500]
    assert len(slots.snapshots()) == 2, "no more slots than processes at one time"


def test_numbers_of_another_meaning_are_left_alone(shared_fd: int) -> None:
    old = _counting(shared_fd, 10, b"y" * LAYOUT_BYTES)
    assert _place(old) == 0
    old.communicate()
    kept = os.pread(shared_fd, 4_096, 0)
    slots = SharedValues(3, _LAYOUT, shared_fd)
    assert slots.number == 1
    assert [found.values for found in slots.snapshots()] == [[0.0] * 3]
    assert os.pread(shared_fd, 4_096, 0) == kept


def test_a_process_with_more_numbers_than_fit_counts_alone(shared_fd: int) -> None:
    slots = SharedValues(100_000, _LAYOUT, shared_fd)
    slots.values[99_999] = 1.0
    [found] = slots.snapshots()
    assert (found.values[99_999], found.is_alive) == (1.0, True)
    assert os.pread(shared_fd, 4_096, 0) == bytes(4_096)


@pytest.mark.parametrize("change", [-1, 1])
def test_shared_memory_can_be_neither_cut_nor_grown(shared_fd: int, change: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(shared_fd, os.fstat(shared_fd).st_size + change)


def test_there_is_room_for_256_workers_and_one_that_ends(shared_fd: int) -> None:
    assert SLOTS == 257
    assert os.fstat(shared_fd).st_size == 257 * 4_096
    assert os.fstat(shared_fd).st_blocks == 0, "memory is taken when a worker counts"
    slots = SharedValues(3, _LAYOUT, shared_fd)
    assert len(slots.snapshots()) == 1
    assert os.fstat(shared_fd).st_blocks * 512 == 4_096


def test_nobody_else_sees_numbers_without_shared_memory() -> None:
    slots = SharedValues(2, _LAYOUT)
    slots.values[1] = 4.0
    [found] = slots.snapshots()
    assert (found.values, found.is_alive) == ([0.0, 4.0], True)
