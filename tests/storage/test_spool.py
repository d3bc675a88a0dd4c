from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tamis.errors import StoreError
from tamis.storage import FileSpool, MemorySpool, TimeIds
from tests.support.fakes import ManualClock
from tests.support.store_samples import HOSTILE_TEXTS, call, calls, run


@pytest.fixture(params=["memory", "file"])
def make(request, tmp_path):
    def make_one(max_rows=1_000):
        if request.param == "memory":
            return MemorySpool(max_rows=max_rows)
        return FileSpool(tmp_path / "spool.db", max_rows=max_rows)

    return make_one


def with_spool(spool, body):
    async def test():
        await spool.open()
        try:
            await body(TimeIds(ManualClock()))
        finally:
            await spool.close()

    run(test)


def test_what_goes_in_comes_out_in_order_until_removed(make):
    spool = make()

    async def body(ids):
        first, second = [call(ids, text) for text in HOSTILE_TEXTS], calls(ids, 5)
        assert await spool.put(first) == len(first)
        assert await spool.put(second) == 5
        assert await spool.oldest(len(first)) == first
        await spool.remove(first)
        assert (await spool.oldest(100), len(spool)) == (second, 5)

    with_spool(spool, body)


def test_a_full_spool_takes_what_fits_even_from_many_at_once(make):
    spool = make(max_rows=10)

    async def body(ids):
        taken = await asyncio.gather(*(spool.put(calls(ids, 4)) for _ in range(5)))
        assert (sum(taken), len(spool)) == (10, 10)
        await spool.remove(await spool.oldest(3))
        assert await spool.put(calls(ids, 4)) == 3

    with_spool(spool, body)


def test_a_call_put_twice_is_there_once(make):
    spool = make()

    async def body(ids):
        one = call(ids)
        assert (await spool.put([one]), await spool.put([one]), len(spool)) == (1, 0, 1)
        await spool.remove([one])
        await spool.remove([one])
        assert len(spool) == 0

    with_spool(spool, body)


def test_memory_is_bounded_by_bytes():
    spool = MemorySpool(max_bytes=100)

    async def body(ids):
        assert await spool.put([call(ids, "é" * 20), call(ids, "é" * 20), call(ids, "é" * 20)]) == 2
        await spool.remove(await spool.oldest(1))
        assert await spool.put([call(ids, "é" * 30)]) == 1

    with_spool(spool, body)


def test_a_file_keeps_its_calls_for_the_next_process(tmp_path: Path):
    spool = FileSpool(tmp_path / "spool.db")

    async def body(ids):
        await spool.put(calls(ids, 7))
        await spool.open()
        assert len(spool) == 7

    with_spool(spool, body)


def test_a_file_belongs_to_one_process(tmp_path: Path):
    async def body(ids):
        with pytest.raises(StoreError, match="locked by another process"):
            await FileSpool(tmp_path / "spool.db").open()

    with_spool(FileSpool(tmp_path / "spool.db"), body)


async def test_a_closed_file_says_so(tmp_path: Path):
    with pytest.raises(StoreError, match="not open"):
        await FileSpool(tmp_path / "spool.db").oldest(1)


def test_processes_with_slots_take_a_file_each_and_find_it_again(tmp_path: Path):
    path = tmp_path / "spool.tamis"

    async def test():
        one, other = FileSpool(path, slots=2), FileSpool(path, slots=2)
        ids = TimeIds(ManualClock())
        await one.open()
        await other.open()
        await one.put(calls(ids, 2))
        await other.put(calls(ids, 3))
        with pytest.raises(StoreError):
            await FileSpool(path, slots=2).open()
        await one.close()
        await other.close()
        again = FileSpool(path, slots=2)
        await again.open()
        assert len(again) == 2
        await again.close()

    run(test)
    assert {file.name for file in tmp_path.glob("*.tamis")} == {"spool.tamis", "spool-1.tamis"}


async def test_file_spool_opens_when_its_folder_is_missing(tmp_path: Path) -> None:
    async def open_and_close() -> None:
        spool = FileSpool(tmp_path / "models" / "spam" / "spool.tamis", slots=2)
        await spool.open()
        await spool.close()

    await open_and_close()
    assert (tmp_path / "models" / "spam").is_dir()


def test_file_spool_rewrites_calls_of_a_removed_file(tmp_path: Path) -> None:
    path = tmp_path / "spool.tamis"
    spool = FileSpool(path)

    async def body(ids: TimeIds) -> None:
        first, second = calls(ids, 3), calls(ids, 2)
        await spool.put(first)
        for file in tmp_path.glob("spool.tamis*"):
            file.unlink()
        assert await spool.put(second) == 2
        assert await spool.oldest(100) == [*first, *second]
        await spool.remove(first[:1])
        await spool.close()
        again = FileSpool(path)
        await again.open()
        assert await again.oldest(100) == [*first[1:], *second]
        await again.close()

    with_spool(spool, body)


def test_file_spool_finds_its_place_again_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "spool.tamis"
    spool = FileSpool(path)

    async def body(ids: TimeIds) -> None:
        first, second = calls(ids, 2), calls(ids, 2)
        await spool.put(first)
        path.rename(tmp_path / "moved.tamis")
        path.write_bytes(b"")
        assert await spool.put(second) == 2
        assert (len(spool), await spool.oldest(100)) == (4, [*first, *second])

    with_spool(spool, body)


def test_file_has_no_text_of_calls_that_were_removed(tmp_path):
    def holds_text():
        return any(b"quokka" in file.read_bytes() for file in tmp_path.iterdir())

    async def body(ids):
        some = [call(ids, f"quokka {number} " + "x" * 9_000) for number in range(20)]
        await spool.put(some)
        assert holds_text()
        await spool.remove(some[:15])
        await spool.remove(some[15:])
        assert not holds_text()

    spool = FileSpool(tmp_path / "spool.db")
    with_spool(spool, body)
