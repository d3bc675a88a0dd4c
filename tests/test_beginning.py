"""Coroutines that run like functions until they wait, and then like every other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tamis.beginning import begin
from tests.asynchronous import asynchronous


class Notes:
    """A coroutine's course, and futures that it waits for."""

    def __init__(self, futures: int = 0):
        self.seen: list[object] = []
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(futures)]

    async def course(self) -> None:
        self.seen.append("begun")
        for future in self.futures:
            try:
                self.seen.append(await future)
            except (ZeroDivisionError, asyncio.CancelledError) as error:
                self.seen.append(type(error))
        self.seen.append("ended")


def task_of(rest: Coroutine[Any, Any, None] | None) -> asyncio.Task[None]:
    assert rest is not None
    return asyncio.create_task(rest)


@asynchronous
async def test_what_waits_for_nothing_is_done_at_once() -> None:
    notes = Notes()
    assert begin(notes.course()) is None
    assert notes.seen == ["begun", "ended"]


@asynchronous
async def test_what_is_raised_before_the_first_wait_is_raised_at_once() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin(fails())


@asynchronous
async def test_a_task_goes_on_where_it_waits() -> None:
    notes = Notes(futures=3)
    task = task_of(begin(notes.course()))
    assert notes.seen == ["begun"]
    for number, future in enumerate(notes.futures):
        await asyncio.sleep(0)
        future.set_result(number)
    await task
    assert notes.seen == ["begun", 0, 1, 2, "ended"]


@pytest.mark.parametrize("place", [0, 1])
@asynchronous
async def test_a_failure_reaches_the_one_who_waits_for_it(place: int) -> None:
    notes = Notes(futures=2)
    task = task_of(begin(notes.course()))
    notes.futures[place].set_exception(ZeroDivisionError())
    notes.futures[1 - place].set_result("well")
    await task
    expected = ["well", "well"]
    expected[place] = ZeroDivisionError  # type: ignore[call-overload]
    assert notes.seen == ["begun", *expected, "ended"]


@pytest.mark.parametrize("turns", [0, 1])
@asynchronous
async def test_a_cancelled_task_cancels_what_it_waits_for(turns: int) -> None:
    notes = Notes(futures=2)
    task = task_of(begin(notes.course()))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    notes.futures[1].set_result("well")
    await task
    assert notes.seen == ["begun", asyncio.CancelledError, "well", "ended"]
