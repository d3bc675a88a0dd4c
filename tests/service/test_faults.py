"""A real service that is killed, and whose store is taken away: what was acknowledged is there, once."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import apsw
import httpx
import pytest

from tests.support.command_server import tamis_command
from tests.support.faults import disk_of_8_mb, fill, frozen, locked_by_another_process
from tests.support.loads import Load, TextLedger
from tests.support.processes import serving

pytestmark = pytest.mark.alone

KILLS = 50
LONG_KILLS = 200
READY_WITHIN_SECONDS = 2.0
HEALED_WITHIN_SECONDS = 5.0
SLOWEST_ANSWER_SECONDS = 4.0
"""The store's patience of one second with a lock, twice, and some room for a busy machine."""

STORE = ("--mock", "--store", "sqlite:///tamis.db")


@pytest.mark.parametrize("kills", [KILLS, pytest.param(LONG_KILLS, marks=pytest.mark.soak)])
def test_killed_service_loses_or_doubles_no_acknowledged_row(tmp_path: Path, kills: int) -> None:
    chance = random.Random(5)
    acknowledged: list[str] = []
    sent, first_start, slowest_start = 0, 0.0, 0.0
    subprocess.run(tamis_command("--version"), check=True, stdout=subprocess.DEVNULL)  # starts what forks
    for kill in range(kills):
        # the first is a program of its own: how long it takes is the yardstick for the others
        with serving(tmp_path, *STORE, is_program=kill == 0) as service:
            load = Load(service.port, f"kill {kill}")
            with load.running() as ledger:
                load.wait_for_more(chance.randrange(1, 400))  # a random moment of its work
                service.process.kill()
        first_start = first_start or service.start_seconds
        slowest_start = max(slowest_start, service.start_seconds)
        acknowledged += ledger.acknowledged
        sent += ledger.sent
    rows = _logged_texts(tmp_path / "tamis.db")
    lost = [text for text in acknowledged if rows[text] == 0]
    doubled = [text for text, number in rows.items() if number > 1]
    print(  # noqa: T201 - the figures of `make soak`
        f"{kills} kills: {len(acknowledged)} acknowledged of {sent} sent, {len(lost)} lost, "
        f"{len(doubled)} doubled, ready again within {slowest_start:.2f} s"
    )
    assert (lost, doubled) == ([], [])
    assert len(acknowledged) > kills * 50
    assert slowest_start < max(READY_WITHIN_SECONDS, 2 * first_start), (
        "on a busy machine the first start is slow too"
    )


def _logged_texts(path: Path) -> Counter[str]:
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    rows = Counter(text for (text,) in connection.execute("SELECT text FROM calls"))
    connection.close()
    return rows


Fault = Callable[[Path], AbstractContextManager[None]]
"""Breaks the store while the context lasts, and mends it at its end."""


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    for file in path.parent.glob("tamis.db*"):
        file.unlink()
    yield


@contextmanager
def _read_only(path: Path) -> Iterator[None]:
    with frozen(path, Path(f"{path}-wal")):
        yield


@contextmanager
def _full(path: Path) -> Iterator[None]:
    filler = fill(path.parent)
    yield
    filler.unlink()


@contextmanager
def _overwritten(path: Path) -> Iterator[None]:
    """Replace every file of the store with rubbish, and move that away in the end."""
    for file in path.parent.glob("tamis.db*"):
        rubbish = path.with_name(f"{file.name}.new")
        rubbish.write_bytes(os.urandom(100_000))
        rubbish.replace(file)
    yield
    for file in path.parent.glob("tamis.db*"):
        file.rename(path.with_name(f"damaged-{file.name}"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the store; what the service says goes elsewhere."""
    with disk_of_8_mb(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("fault", [_read_only, locked_by_another_process])
def test_failing_store_loses_no_answer_and_no_row(tmp_path: Path, fault: Fault) -> None:
    ledger = _go_through(tmp_path, tmp_path / "tamis.db", fault, more_texts=2_000)
    rows = _logged_texts(tmp_path / "tamis.db")
    assert rows == Counter(ledger.acknowledged)


@pytest.mark.soak
def test_a_lock_of_ten_seconds_loses_nothing(tmp_path: Path) -> None:
    @contextmanager
    def locked_for_long(path: Path) -> Iterator[None]:
        with locked_by_another_process(path):
            time.sleep(10)  # the fault itself: that long
            yield

    # one client: eight log more in ten seconds than the 100,000 calls that may wait
    ledger = _go_through(tmp_path, tmp_path / "tamis.db", locked_for_long, more_texts=10, connections=1)
    assert _logged_texts(tmp_path / "tamis.db") == Counter(ledger.acknowledged)


def test_full_disk_loses_no_answer_and_no_row(tmp_path: Path, disk: Path) -> None:
    # one client: what more would log within the second until it heals fills eight megabytes by itself
    ledger = _go_through(tmp_path, disk / "tamis.db", _full, more_texts=500, connections=1)
    assert _logged_texts(disk / "tamis.db") == Counter(ledger.acknowledged)


@pytest.mark.parametrize("fault", [_removed, _overwritten])
def test_lost_file_loses_no_answer_and_no_later_row(tmp_path: Path, fault: Fault) -> None:
    ledger = _go_through(tmp_path, tmp_path / "tamis.db", fault, more_texts=2_000)
    rows = _logged_texts(tmp_path / "tamis.db")
    assert set(rows) <= set(ledger.acknowledged)
    assert set(rows.values()) == {1}
    assert rows[ledger.acknowledged[-1]] == 1


def _go_through(
    folder: Path, store: Path, fault: Fault, *, more_texts: int, connections: int = 8
) -> TextLedger:
    """Break the store of a service under load, mend it, and check all that is the same for every fault."""
    with (
        serving(folder, "--mock", "--store", f"sqlite:///{store}", TAMIS_DRAIN_SECONDS="0") as service,
        httpx.Client(base_url=service.address) as client,
    ):
        load = Load(service.port, "fault", connections=connections)
        with load.running() as ledger:
            load.wait_for_more(200)
            with fault(store):
                load.wait_for_more(more_texts)
                _wait_for(client, "degraded" if fault is not _removed else "")
            mended = time.monotonic()
            load.wait_for_more(200)
            _wait_for(client, "ready")
            healed_seconds = time.monotonic() - mended
            load.wait_for_more(200)
        assert set(ledger.statuses) == {200}
        assert ledger.slowest_seconds < SLOWEST_ANSWER_SECONDS
        assert healed_seconds < HEALED_WITHIN_SECONDS
        counted = _counters(client)
        assert counted["accepted"] == counted["written"] + counted["spooled"] + counted["dropped"]
        assert counted["accepted"] == len(ledger.acknowledged)
        assert (counted["spooled"], counted["dropped"]) == (0, 0)
        assert service.stop() == 0
    return ledger


def _wait_for(client: httpx.Client, status: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        response = client.get("/health/ready")
        assert response.status_code == 200
        if response.json()["status"].startswith(status):
            return
    raise AssertionError(response.text)


def _counters(client: httpx.Client) -> dict[str, int]:
    shown = client.get("/metrics").text
    found = re.findall(r"^tamis_calls_(\w+?)(?:_total)? (\d+)$", shown, re.MULTILINE)
    return {name: int(number) for name, number in found}
