"""The prediction cache loses its files in every way: what it then finds is right, and it is rebuilt."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.clock import SystemClock
from tamis.storage import StoreOptions, TimeIds
from tamis.storage.sqlite import SqliteStore
from tamis.storage.sqlite.cache import BATCH_ANSWERS, MAX_WAITING, RETRY_SECONDS, CacheFiles, CacheWriter
from tamis.storage.sqlite.commit import AWAY_SECONDS, DiskSpeed
from tests.support.fakes import ManualClock
from tests.support.faults import disk_of_8_mb, fill
from tests.support.store_samples import SCORES, call, everything, run
from tests.support.store_samples import digest as key

NOW, LONG = 1_700_000_000, 1_000.0
ROWS = 1_000


def zero_first_4_kb(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes(4_096) + content[4_096:])


def change_magic_byte(file: Path) -> None:
    change(file, 3, b"!")


def break_head(file: Path) -> None:
    change(file, 64, b"\xff" * 6 + b"\x3f\x00")


def leave_1_byte(file: Path) -> None:
    os.truncate(file, 1)


def leave_10_bytes(file: Path) -> None:
    os.truncate(file, 10)


def leave_65_bytes(file: Path) -> None:
    os.truncate(file, 65)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def fill_with_rubbish(file: Path) -> None:
    file.write_bytes(b"the diary of somebody else" * 1_000)


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(os.urandom(20_000))
    other.replace(file)


def leave_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def leave_dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nowhere"))


def change(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)


FAULTS = [
    zero_first_4_kb,
    change_magic_byte,
    break_head,
    leave_1_byte,
    leave_10_bytes,
    leave_65_bytes,
    empty,
    fill_with_rubbish,
    remove,
    replace,
    leave_pipe,
    leave_dangling_link,
]

MakeCache = Callable[[], CacheFiles]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tamis.db-cache128"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeCache]:
    made: list[CacheFiles] = []

    def make_cache() -> CacheFiles:
        made.append(CacheFiles(tmp_path / "tamis.db", ROWS))
        made[-1].open()
        return made[-1]

    yield make_cache
    for cache in made:
        cache.close()


def remember(cache: CacheFiles, numbers: range, now: int = NOW) -> None:
    cache.put_many({key(number): {"ham": number / 7} for number in numbers}, now, LONG)
    cache.write(cache.begin_write(), now)
    cache.end_write()


def known(cache: CacheFiles, numbers: range, now: int = NOW) -> int:
    """Return how many answers are found; each must be the right one."""
    found = cache.get_many([key(number) for number in numbers], now)
    wanted = [{"ham": number / 7} for number in numbers]
    assert all(one in (None, right) for one, right in zip(found, wanted, strict=True))
    return sum(one is not None for one in found)


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_cache_at_start_is_rebuilt(
    make: MakeCache, file: Path, caplog: pytest.LogCaptureFixture, fault: Callable[[Path], None]
) -> None:
    remember(make(), range(50))
    fault(file)
    cache = make()
    assert known(cache, range(50)) == 0
    remember(cache, range(50))
    assert known(cache, range(50)) == known(make(), range(50)) == 50
    assert len(warnings(caplog)) == (0 if fault in (empty, remove) else 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_cache_damaged_while_open_is_rebuilt(
    make: MakeCache, file: Path, caplog: pytest.LogCaptureFixture, fault: Callable[[Path], None]
) -> None:
    one, other = make(), make()
    remember(one, range(50))
    remember(other, range(50, 100))
    fault(file)
    for cache in (one, other):
        known(cache, range(100))
        remember(cache, range(100, 150))
        assert known(cache, range(100, 150)) == 50
    assert known(one, range(100, 150)) == known(other, range(100, 150)) == 50, "they share a file again"
    assert 1 <= len(warnings(caplog)) <= 3, "one line for the file, one for each that had it open"
    assert not file.with_name("nowhere").exists()


def test_damaged_head_makes_no_look_up_read_the_ring(make: MakeCache, file: Path) -> None:
    cache = make()
    remember(cache, range(50))
    change(file, 64, (2**61).to_bytes(8, "little"))
    assert known(cache, range(50)) == 50, "the head is not believed, and the slots are intact"


def test_link_to_the_log_is_removed_and_the_log_untouched(make: MakeCache, tmp_path: Path) -> None:
    log = tmp_path / "tamis.db"
    log.write_bytes(b"the log" * 1_000)
    os.link(log, tmp_path / "tamis.db-cache128")
    (tmp_path / "tamis.db-cache256").symlink_to(log)
    cache = make()
    remember(cache, range(50))
    cache.put_many({key(1_000): {f"label {i}": 0.1 for i in range(10)}}, NOW, LONG)
    cache.write(cache.begin_write(), NOW)
    assert known(cache, range(50)) == 50
    assert log.read_bytes() == b"the log" * 1_000


@pytest.mark.parametrize(
    "name", ["99999999999", "0", "129", "00128", "1073741824", "٢٥٦", "128x", "9" * 200, "-128"]
)
def test_stray_file_beside_the_cache_is_left_alone(make: MakeCache, tmp_path: Path, name: str) -> None:
    stray = tmp_path / f"tamis.db-cache{name}"
    stray.write_bytes(b"something else")
    remember(make(), range(50))
    assert known(make(), range(50)) == 50
    assert stray.read_bytes() == b"something else"


def test_folder_in_place_of_the_cache_is_logged_once(
    make: MakeCache, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.mkdir()
    cache = make()
    for second in range(5):
        remember(cache, range(50), NOW + RETRY_SECONDS * second)
        assert known(cache, range(50)) == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    file.rmdir()
    remember(cache, range(50), NOW + RETRY_SECONDS * 6)
    assert known(cache, range(50), NOW + RETRY_SECONDS * 6) == 50


def test_full_disk_drops_answers_until_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with disk_of_8_mb(tmp_path / "disk") as disk:
        cache = CacheFiles(disk / "tamis.db", 60_000)
        cache.open()
        filler = fill(disk)
        remember(cache, range(200))
        remember(cache, range(200, 400))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        filler.unlink()
        remember(cache, range(50), NOW + RETRY_SECONDS)
        assert known(cache, range(50), NOW + RETRY_SECONDS) == 50
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        cache.close()


def test_cache_on_a_read_only_disk_finds_nothing_and_goes_on(tmp_path: Path) -> None:
    with disk_of_8_mb(tmp_path / "disk") as disk:
        cache = CacheFiles(disk / "tamis.db", 100)
        cache.open()
        remember(cache, range(50))
        cache.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        cache.open()
        remember(cache, range(50))
        assert known(cache, range(50)) == 0
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        remember(cache, range(50), NOW + RETRY_SECONDS)
        assert known(cache, range(50), NOW + RETRY_SECONDS) == 50
        cache.close()


def test_answers_beyond_the_bound_are_dropped(make: MakeCache) -> None:
    cache = make()
    for start in range(0, 10_000, 100):
        n_waiting = cache.put_many({key(i): SCORES for i in range(start, start + 100)}, NOW, LONG)
        assert n_waiting <= MAX_WAITING


Damage = tuple[str, int, int]
damages = st.lists(
    st.tuples(
        st.sampled_from(["bytes", "truncate", "zeros", "remove"]), st.integers(0, 2**20), st.integers(1, 64)
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(damages=damages, seed=st.integers(0, 2**32), while_open=st.booleans())
def test_store_with_any_damage_to_its_cache_logs_every_call(
    tmp_path_factory: pytest.TempPathFactory, damages: list[Damage], seed: int, while_open: bool
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    chance = random.Random(seed)

    async def test() -> None:
        store = SqliteStore(folder / "tamis.db", SystemClock(), StoreOptions(cache_rows=200))
        ids, logged = TimeIds(SystemClock()), []
        await store.open()
        for damage in damages:
            some = [call(ids, f"text {len(logged) + i}") for i in range(20)]
            await store.log.append(some)
            await store.cache.put_many({key(len(logged) + i): SCORES for i in range(20)})
            logged += some
            if not while_open:
                await store.close()
            damage_cache(folder, damage, chance)
            if not while_open:
                await store.open()
            found = await store.cache.get_many([key(i) for i in range(len(logged))])
            assert all(one in (None, SCORES) for one in found)
        assert await everything(store) == logged
        await store.close()

    run(test)
    connection = apsw.Connection(str(folder / "tamis.db"))
    assert connection.pragma("integrity_check") == "ok"
    assert connection.execute("SELECT count(*) FROM calls").get == 20 * len(damages)
    connection.close()
    shutil.rmtree(folder)


def damage_cache(folder: Path, damage: Damage, chance: random.Random) -> None:
    kind, place, length = damage
    for file in folder.glob("tamis.db-cache*"):
        size = file.stat().st_size
        offset = place % min(size, 200) if size and chance.random() < 0.5 else place % (size + 1)
        if kind == "remove":
            file.unlink()
        elif kind == "truncate":
            os.truncate(file, offset)
        else:
            change(file, offset, chance.randbytes(length) if kind == "bytes" else bytes(length))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_write_at_once_leaves_a_held_file_to_the_thread(make: MakeCache, file: Path) -> None:
    cache = make()
    cache.put_many({key(number): {"ham": number / 7} for number in range(10)}, NOW, LONG)
    waiting = cache.begin_write()
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not cache.write_at_once(waiting, NOW)
        assert known(make(), range(10)) == 0
    assert cache.write_at_once(waiting, NOW)
    assert known(make(), range(10)) == 10


def test_write_at_once_opens_no_file(make: MakeCache) -> None:
    cache = make()
    cache.put_many({key(1): {f"label {number}": number / 7 for number in range(20)}}, NOW, LONG)
    waiting = cache.begin_write()
    assert not cache.write_at_once(waiting, NOW)
    cache.write(waiting, NOW)
    assert cache.write_at_once(waiting, NOW), "the thread has opened it"


async def test_writer_on_a_fast_disk_writes_on_the_loop(make: MakeCache) -> None:
    clock = ManualClock()
    disk = DiskSpeed(clock)
    clock.advance(AWAY_SECONDS)
    disk.note_in_thread(disk.now(), allowance=0)
    writer = CacheWriter(make(), lambda: NOW, cache_seconds=LONG, disk=disk)
    await writer.open()
    writer.put_many({key(number): {"ham": number / 7} for number in range(BATCH_ANSWERS)})
    assert known(make(), range(BATCH_ANSWERS)) == BATCH_ANSWERS
    await writer.close()


def test_write_at_once_follows_no_long_file_of_others(make: MakeCache, file: Path) -> None:
    cache, other = make(), make()
    for start in range(0, 6_000, 3_000):
        remember(other, range(start, start + 3_000))
    cache.put_many({key(9_000): {"ham": 1.0}}, NOW, LONG)
    waiting = cache.begin_write()
    assert not cache.write_at_once(waiting, NOW)
    cache.write(waiting, NOW)
    assert cache.write_at_once(waiting, NOW), "the thread has read what the other has written"
    file.unlink()
    cache.put_many({key(9_001): {"ham": 1.0}}, NOW, LONG)
    assert not cache.write_at_once(cache.begin_write(), NOW), "a removed file is opened again by the thread"
