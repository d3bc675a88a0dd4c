"""That numbers of many processes are exact, survive their process, and need no more files than processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tamis.service.observing.slots import LAYOUT_BYTES, Slots

_LAYOUT = b"x" * LAYOUT_BYTES
_COUNT = """
import sys
from pathlib import Path
from tamis.service.observing.slots import Slots
slots = Slots(3, {layout!r}, Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    slots.values[0] += 1.0
    slots.values[2] += 0.5
print(slots.number, flush=True)
sys.stdin.read()
"""


def _counting(directory: Path, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _COUNT.format(layout=_LAYOUT), str(directory), str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _place(process: subprocess.Popen[str]) -> int:
    """Wait until a process has counted; return the number of its file."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def _totals(slots: Slots) -> list[float]:
    return [sum(values) for values in zip(*(found.values for found in slots.everyone()), strict=True)]


def test_totals_are_exact_when_processes_count_at_the_same_time(tmp_path: Path) -> None:
    slots = Slots(3, _LAYOUT, tmp_path)
    processes = [_counting(tmp_path, 50_000) for _ in range(4)]
    slots.values[1] = 7.0
    assert sorted(map(_place, processes)) == [1, 2, 3, 4]
    assert _totals(slots) == [200_000, 7, 100_000]
    assert [found.is_alive for found in slots.everyone()] == [True] * 5
    assert {found.process for found in slots.everyone()[1:]} == {process.pid for process in processes}
    for process in processes:
        process.communicate()
    assert [found.is_alive for found in slots.everyone()] == [True, False, False, False, False]
    assert _totals(slots) == [200_000, 7, 100_000]


def test_the_next_process_goes_on_where_a_killed_one_has_counted_to(tmp_path: Path) -> None:
    slots = Slots(3, _LAYOUT, tmp_path)
    for _ in range(5):
        process = _counting(tmp_path, 1_000)
        assert _place(process) == 1
        process.kill()
        process.communicate()
    assert _totals(slots) == [5_000, 0, 2_500]
    assert len([*tmp_path.iterdir()]) == 2, "no more files than processes at one time"


def test_numbers_of_another_meaning_are_left_alone(tmp_path: Path) -> None:
    old = _counting(tmp_path, 10)
    assert _place(old) == 0
    old.communicate()
    kept = (tmp_path / "0.metrics").read_bytes()
    longer = Slots(4, _LAYOUT, tmp_path)
    other = Slots(3, b"y" * LAYOUT_BYTES, tmp_path)
    assert (longer.number, other.number) == (1, 2)
    assert [found.values for found in other.everyone()] == [[0.0] * 3]
    assert (tmp_path / "0.metrics").read_bytes() == kept


def test_a_file_whose_process_has_only_just_begun_is_passed_over(tmp_path: Path) -> None:
    slots = Slots(3, _LAYOUT, tmp_path)
    (tmp_path / "1.metrics").touch()
    assert len(slots.everyone()) == 1
    begun = _counting(tmp_path, 1)
    assert _place(begun) == 1
    begun.communicate()


def test_nobody_else_sees_numbers_without_a_directory() -> None:
    slots = Slots(2, _LAYOUT)
    slots.values[1] = 4.0
    [found] = slots.everyone()
    assert (found.values, found.is_alive) == ([0.0, 4.0], True)
