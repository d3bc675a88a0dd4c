"""The files of the prediction cache: what they hold, forget, share and survive."""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.storage.sqlite.cache import CacheFiles
from tests.support.store_samples import SCORES
from tests.support.store_samples import digest as key

NOW, LONG = 1_700_000_000, 1_000.0

MakeCache = Callable[..., CacheFiles]


def answers(numbers: range) -> dict[bytes, dict[str, float]]:
    return {key(number): {"ham": 1 / (number + 3), "spam": number / 7} for number in numbers}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tamis.db-cache128"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeCache]:
    made: list[CacheFiles] = []

    def make_cache(max_rows: int = 1_000) -> CacheFiles:
        made.append(CacheFiles(tmp_path / "tamis.db", max_rows))
        made[-1].open()
        return made[-1]

    yield make_cache
    for cache in made:
        cache.close()


def write(cache: CacheFiles, now: int = NOW) -> None:
    cache.write(cache.begin_write(), now)
    cache.end_write()


def remember(cache: CacheFiles, some: dict[bytes, dict[str, float]]) -> None:
    cache.put_many(some, NOW, LONG)
    write(cache)


def known(cache: CacheFiles, numbers: range) -> int:
    """Return how many answers are known; each that is must be the right one."""
    wanted = answers(numbers)
    found = cache.get_many([*wanted], NOW)
    assert all(one in (None, scores) for one, scores in zip(found, wanted.values(), strict=True))
    return sum(one is not None for one in found)


def test_cache_outlives_the_process_and_is_private(make: MakeCache, file: Path) -> None:
    remember(make(), answers(range(300)))
    assert known(make(), range(300)) == 300
    assert file.stat().st_mode & 0o777 == 0o600
    assert key(7) in file.read_bytes()
    assert b'{"ham":0.1,"spam":1.0}' in file.read_bytes()


def test_the_newest_rows_are_kept_and_no_others(make: MakeCache, file: Path) -> None:
    cache = make(500)
    for start in range(0, 3_000, 30):
        remember(cache, answers(range(start, start + 30)))
    assert known(cache, range(2_500)) == 0
    assert known(cache, range(2_500, 3_000)) > 480, "a full bucket forgets a little sooner"
    assert known(cache, range(2_900, 3_000)) == 100
    assert known(make(500), range(2_500, 3_000)) > 480
    assert file.stat().st_size == 4_096 + 500 * 128


@pytest.mark.parametrize("most_rows", [1, 2, 7])
def test_more_answers_than_there_is_room_for_leave_the_last(make: MakeCache, most_rows: int) -> None:
    cache = make(most_rows)
    remember(cache, answers(range(5)))
    remember(cache, answers(range(100, 120)))
    assert known(cache, range(100, 120)) == known(cache, range(120 - most_rows, 120)) == most_rows


@pytest.mark.parametrize("is_written", [False, True])
def test_an_answer_that_has_expired_is_replaced(make: MakeCache, is_written: bool) -> None:
    cache = make()
    cache.put_many({key(1): SCORES}, NOW, LONG)
    if is_written:
        write(cache)
    later = NOW + int(LONG)
    cache.put_many({key(1): {"ham": 1.0}}, later - 1, LONG)
    if is_written:
        write(cache, later - 1)
    assert cache.get_many([key(1)], later - 1) == [SCORES]
    assert cache.get_many([key(1)], later) == [None]
    cache.put_many({key(1): {"ham": 1.0}}, later, LONG)
    for _ in ("in memory", "in the file"):
        assert cache.get_many([key(1)], later) == [{"ham": 1.0}]
        write(cache, later)


def test_an_answer_keeps_its_value_while_it_is_written(make: MakeCache) -> None:
    cache = make()
    cache.put_many({key(1): SCORES}, NOW, LONG)
    waiting = cache.begin_write()
    cache.put_many({key(1): {"ham": 1.0}}, NOW, LONG)
    assert cache.get_many([key(1)], NOW) == [SCORES]
    cache.write(waiting, NOW)
    cache.end_write()
    write(cache)
    assert cache.get_many([key(1)], NOW) == [SCORES]


def test_an_answer_may_live_for_ever(make: MakeCache) -> None:
    cache = make()
    cache.put_many({key(1): SCORES}, NOW, 1e12)
    write(cache)
    assert cache.get_many([key(1)], NOW + 10**9) == [SCORES]


def test_two_processes_know_each_others_answers(make: MakeCache) -> None:
    one, other = make(100), make(100)
    for start in range(0, 1_000, 20):
        remember(one, answers(range(start, start + 10)))
        assert known(other, range(start, start + 10)) == 10
        remember(other, answers(range(start + 10, start + 20)))
        assert known(one, range(start, start + 20)) == 20
    assert known(one, range(900)) == known(other, range(900)) == 0


def test_who_fell_far_behind_goes_on_with_what_is_still_there(make: MakeCache) -> None:
    one, other = make(100), make(100)
    remember(one, answers(range(10)))
    for start in range(100, 1_000, 50):
        remember(other, answers(range(start, start + 50)))
    assert known(one, range(10)) == 0
    assert known(one, range(900, 1_000)) > 90


def test_answers_of_every_length_come_back(make: MakeCache, tmp_path: Path) -> None:
    wanted = {key(n): {f"label {i}": i / (n + 1) for i in range(n)} for n in (1, 2, 3, 5, 20, 77, 2_000)}
    cache = make()
    remember(cache, wanted)
    for reader in (cache, make()):
        assert reader.get_many([*wanted], NOW) == [*wanted.values()]
    sizes = sorted(int(path.name.removeprefix("tamis.db-cache")) for path in tmp_path.iterdir())
    assert sizes == [128, 256, 1024, 4096, 65536]
    remember(cache, {key(2): {"ham": 1.0}, key(77): SCORES})
    assert cache.get_many([*wanted], NOW) == [*wanted.values()], "a live answer stays, whatever its length"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damage_makes_answers_unknown_and_never_wrong(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("damaged") / "tamis.db"
    cache = CacheFiles(path, 60)
    cache.open()
    remember(cache, answers(range(50)))
    file = path.with_name("tamis.db-cache128")
    content = bytearray(file.read_bytes())
    for _ in range(chance.randrange(1, 200)):
        content[chance.randrange(64, len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content[: chance.randrange(len(content) // 2, len(content) + 1)])
    known(cache, range(50))
    remember(cache, answers(range(100, 110)))
    assert known(cache, range(100, 110)) == 10
    cache.close()


def test_an_emptied_file_is_filled_again(make: MakeCache, file: Path) -> None:
    cache = make()
    remember(cache, answers(range(50)))
    file.write_bytes(b"")
    assert known(cache, range(50)) == 0
    remember(cache, answers(range(50)))
    assert known(cache, range(50)) == 50


def test_another_bound_begins_anew(make: MakeCache) -> None:
    remember(make(1_000), answers(range(50)))
    cache = make(2_000)
    assert known(cache, range(50)) == 0
    remember(cache, answers(range(50)))
    assert known(make(2_000), range(50)) == 50


def _head_huge(content: bytes) -> bytes:
    return content[:64] + b"\xff" * 8 + content[72:]


DAMAGE = {
    "first page zero": lambda content: bytes(4_096) + content[4_096:],
    "magic": lambda content: b"t" + content[1:],
    "version": lambda content: content[:11] + b"\x01" + content[12:],
    "head": _head_huge,
    "another file": lambda content: b"the diary of somebody else" * 1_000,
    **{f"{size} bytes": lambda content, size=size: content[:size] for size in (*range(11), 70, 4_096)},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_file_is_rebuilt_and_stalls_nothing(
    make: MakeCache, file: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    running = make(500_000)
    remember(running, answers(range(50)))
    file.write_bytes(damage(file.read_bytes()))
    began = time.monotonic()
    known(running, range(50))
    started = make(500_000)
    known(started, range(50))
    assert time.monotonic() - began < 0.5
    for cache in (running, started):
        remember(cache, answers(range(50)))
        assert known(cache, range(50)) == 50
    assert len([line for line in caplog.messages if line.endswith("damaged")]) <= 1


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_damage_of_the_first_bytes_stops_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "tamis.db"
    running, started = CacheFiles(path, 60), CacheFiles(path, 60)
    running.open()
    remember(running, answers(range(50)))
    file = path.with_name("tamis.db-cache128")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(0, 79))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    known(running, range(50))
    started.open()
    for cache in (started, running):
        remember(cache, answers(range(100, 110)))
        assert known(cache, range(100, 110)) == 10
        cache.close()


def test_who_holds_the_lock_for_long_keeps_nobody_waiting(make: MakeCache, file: Path) -> None:
    cache = make()
    remember(cache, answers(range(10)))
    with file.open("rb+") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        remember(cache, answers(range(100, 110)))
        assert known(cache, range(10)) == 10
        assert known(cache, range(100, 110)) == 0
    remember(cache, answers(range(100, 110)))
    assert known(cache, range(100, 110)) == 10
