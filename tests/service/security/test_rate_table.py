"""The shared table: exact between processes, of fixed size, and safe from its own file."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamis.clock import SystemClock
from tamis.errors import SettingsError
from tamis.service.security.rate_table import RateTable
from tests.support.fakes import ManualClock

SECOND = 1_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rates.tamis"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def small(path: Path, clock: ManualClock) -> Iterator[RateTable]:
    """A table of a single row: sixteen callers."""
    table = RateTable(path, clock, rows=1)
    yield table
    table.close()


def _take(table: RateTable, name: str, *, seconds: int = 1, most: int = 10) -> bool:
    wait = table.consume(table.slot_key(name), seconds * SECOND, most * SECOND).wait
    return wait == 0


def test_a_table_remembers_when_it_is_opened_again(path: Path, clock: ManualClock) -> None:
    for is_free in (True, False):
        table = RateTable(path, clock)
        assert _take(table, "anne", seconds=10) is is_free
        table.close()


def test_two_tables_on_one_file_count_together(path: Path, clock: ManualClock) -> None:
    one, other = RateTable(path, clock), RateTable(path, clock)
    assert [_take(table, "anne", seconds=4) for table in (one, other, one, other)] == [
        True,
        True,
        False,
        False,
    ]
    one.close()
    other.close()


def test_a_newcomer_takes_the_place_of_one_whose_time_is_over(small: RateTable, clock: ManualClock) -> None:
    assert all(_take(small, f"past {n}", seconds=10) for n in range(16))
    clock.advance(5)
    assert all(not _take(small, f"past {n}", seconds=6) for n in range(16)), "sixteen are remembered"
    clock.advance(6)
    assert all(_take(small, f"now {n}", seconds=10) for n in range(16))
    assert all(not _take(small, f"now {n}") for n in range(16))


def test_rate_row_of_too_many_callers_drops_the_smallest(small: RateTable) -> None:
    assert all(_take(small, f"caller {n}", seconds=10 - (n == 7)) for n in range(16))
    assert _take(small, "newcomer", seconds=10)
    assert not _take(small, "newcomer")
    others = [n for n in range(16) if n != 7]
    assert all(not _take(small, f"caller {n}") for n in others), "the others are still counted"


@pytest.mark.parametrize("callers", [50_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_memory_and_file_stay_flat_with_many_callers(path: Path, callers: int) -> None:
    table = RateTable(path, SystemClock())
    size = path.stat().st_size
    for number in range(10_000):  # fill what is remembered of callers' places
        _take(table, f"early {number}")
    before = _resident_bytes()
    for number in range(callers):
        assert _take(table, f"caller {number}")
    grown = _resident_bytes() - before
    table.close()
    print(f"{callers:,} callers in a table of {size / 1e6:.1f} MB: memory + {grown / 1e6:.2f} MB")  # noqa: T201
    assert path.stat().st_size == size < 3_000_000
    assert grown < 4_000_000, f"{grown} bytes for {callers} callers"


def test_callers_are_spread_by_a_secret_of_each_file(tmp_path: Path, clock: ManualClock) -> None:
    tables = [RateTable(tmp_path / name, clock) for name in ("a", "b")]
    assert tables[0].slot_key("anne") != tables[1].slot_key("anne")
    rows = {tables[0].slot_key(str(n))[0] for n in range(1_000)}
    assert len(rows) > 900
    for table in tables:
        table.close()


_HAMMER = """
import sys
from pathlib import Path
from tamis.clock import SystemClock
from tamis.service.security.rate_table import RateTable

class Noting(SystemClock):
    times = []
    def monotonic(self):
        self.times.append(super().monotonic())
        return self.times[-1]

path, attempts, interval, most = Path(sys.argv[1]), *map(int, sys.argv[2:])
table = RateTable(path, Noting())
place = table.slot_key("anne")
print("ready", flush=True)
sys.stdin.readline()
accepted = sum(table.consume(place, interval, most)[1] == 0 for _ in range(attempts))
print(accepted, *(round(moment * 1e9) for moment in (Noting.times[0], Noting.times[-1])))
"""


def _hammer(path: Path, *, attempts: int, interval_ns: int, most_ns: int) -> list[tuple[int, int, int]]:
    """Let four processes take at the same time; return how often each was let in, from when till when."""
    command = [sys.executable, "-c", _HAMMER, path, str(attempts), str(interval_ns), str(most_ns)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    return [(int(accepted), int(first), int(last)) for accepted, first, last in outputs]


# alone: on a busy machine a process waits in vain for a lock and counts without it, which is not exact
@pytest.mark.alone
def test_four_processes_let_exactly_one_burst_in(path: Path) -> None:
    """A text an hour, a thousand at once: nothing comes back while the test runs."""
    hour = 3_600 * SECOND
    results = _hammer(path, attempts=20_000, interval_ns=hour, most_ns=1_000 * hour)
    assert sum(accepted for accepted, _, _ in results) == 1_000


@pytest.mark.alone
def test_rate_of_four_processes_is_exact(path: Path) -> None:
    """A text every tenth of a millisecond, from an empty burst of ten seconds that no pause here fills.

    Every text let in has moved the shared time by one interval, none twice and none in vain.
    """
    interval, most = 100_000, 10 * SECOND
    table = RateTable(path, SystemClock())
    table.consume(table.slot_key("anne"), most, most)
    before = _sent_until(path)
    results = _hammer(path, attempts=20_000, interval_ns=interval, most_ns=most)
    after, accepted = _sent_until(path), sum(accepted for accepted, _, _ in results)
    assert after - before == accepted * interval
    assert after - most <= max(last for _, _, last in results), "no text was let in before its time"
    assert 0 < accepted < 80_000
    table.close()


class _StoppedClock(SystemClock):
    """The machine's monotonic time at the moment this clock was made."""

    def __init__(self) -> None:
        self._moment = super().monotonic()

    def monotonic(self) -> float:
        return self._moment


def _sent_until(path: Path) -> int:
    """Return the time in nanoseconds that stands in the table."""
    clock = _StoppedClock()
    table = RateTable(path, clock)
    ahead = table.consume(table.slot_key("anne"), 0, 1 << 62).ahead
    table.close()
    return round(clock.monotonic() * SECOND) + ahead


_TAKE_FOR_EVER = """
import sys
from pathlib import Path
from tamis.clock import SystemClock
from tamis.service.security.rate_table import RateTable
table = RateTable(Path(sys.argv[1]), SystemClock())
place = table.slot_key("anne")
print("ready", flush=True)
while True:
    table.consume(place, 1, 10**9)
"""


def test_a_process_that_is_killed_leaves_no_lock(path: Path) -> None:
    table = RateTable(path, SystemClock())
    for _ in range(5):
        command = [sys.executable, "-c", _TAKE_FOR_EVER, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            assert all(_take(table, f"caller {n}") for n in range(1_000))
            process.kill()
        assert _take(table, "anne", seconds=0), "this would wait for ever for a lock that was left"
    table.close()


def test_a_table_from_before_a_reboot_begins_anew(path: Path, clock: ManualClock) -> None:
    table = RateTable(path, clock)
    assert _take(table, "anne", seconds=10)
    table.close()
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"another-boot-of-this-very-machine!!!")
    table = RateTable(path, clock)
    assert _take(table, "anne", seconds=10)
    table.close()


def test_a_table_that_was_never_finished_begins_anew(path: Path, clock: ManualClock) -> None:
    path.write_bytes(bytes(100))
    table = RateTable(path, clock)
    assert _take(table, "anne")
    table.close()


def test_another_file_is_not_overwritten(path: Path, clock: ManualClock) -> None:
    path.write_text("precious")
    with pytest.raises(SettingsError, match="not a rate file of Tamis"):
        RateTable(path, clock)
    assert path.read_text() == "precious"


def test_a_link_is_not_followed(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="TAMIS_RATE_FILE"):
        RateTable(path, clock)
    assert not (tmp_path / "elsewhere").exists()


def test_rate_file_that_cannot_be_written_is_refused_at_start(path: Path, clock: ManualClock) -> None:
    """A limit on file sizes stands for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SettingsError, match="the rate file cannot be used"):
            RateTable(path, clock)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
