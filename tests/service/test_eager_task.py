"""Coroutines that run like functions until they wait, and then like every other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tamis.service.eager_task import RequestRun, ensure_task, start_eagerly


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


async def test_what_waits_for_nothing_is_done_at_once() -> None:
    notes = Notes()
    assert start_eagerly(notes.course()) is None
    assert notes.seen == ["begun", "ended"]


async def test_what_is_raised_before_the_first_wait_is_raised_at_once() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        start_eagerly(fails())


async def test_a_task_goes_on_where_it_waits() -> None:
    notes = Notes(futures=3)
    task = task_of(start_eagerly(notes.course()))
    assert notes.seen == ["begun"]
    for number, future in enumerate(notes.futures):
        await asyncio.sleep(0)
        future.set_result(number)
    await task
    assert notes.seen == ["begun", 0, 1, 2, "ended"]


@pytest.mark.parametrize("place", [0, 1])
async def test_a_failure_reaches_the_one_who_waits_for_it(place: int) -> None:
    notes = Notes(futures=2)
    task = task_of(start_eagerly(notes.course()))
    notes.futures[place].set_exception(ZeroDivisionError())
    notes.futures[1 - place].set_result("well")
    await task
    expected = ["well", "well"]
    expected[place] = ZeroDivisionError  # type: ignore[call-overload]
    assert notes.seen == ["begun", *expected, "ended"]


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_cancelled_task_cancels_what_it_waits_for(turns: int) -> None:
    notes = Notes(futures=2)
    task = task_of(start_eagerly(notes.course()))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    notes.futures[1].set_result("well")
    await task
    assert notes.seen == ["begun", asyncio.CancelledError, "well", "ended"]


async def test_eager_task_already_done_costs_no_turn() -> None:
    notes = Notes(futures=2)
    rest = start_eagerly(notes.course())
    notes.futures[0].set_result("first")
    task = task_of(rest)
    await asyncio.sleep(0)
    assert notes.seen == ["begun", "first"]
    notes.futures[1].set_result("second")
    await task
    assert notes.seen == ["begun", "first", "second", "ended"]


async def test_who_needs_a_task_waits_for_it() -> None:
    async def with_deadline() -> None:
        await ensure_task()
        async with asyncio.timeout(100):
            seen.append(asyncio.current_task())
        await ensure_task()

    def from_a_callback() -> None:
        begun.set_result(task_of(start_eagerly(with_deadline())))

    seen: list[object] = []
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[asyncio.Task[None]] = loop.create_future()
    loop.call_soon(from_a_callback)  # where no task is the current one, as in a connection
    task = await begun
    await task
    assert seen == [task]


async def test_request_run_goes_on_without_a_task() -> None:
    async def course() -> None:
        tasks.append(asyncio.current_task())
        for future in notes.futures:
            await future
            tasks.append(asyncio.current_task())

    notes, running = Notes(futures=2), set[Any]()
    tasks: list[object] = []
    loop = asyncio.get_running_loop()
    loop.call_soon(RequestRun(course(), running).start)
    for number, future in enumerate(notes.futures):
        await turns(2)
        assert (len(tasks), len(running)) == (number + 1, 1)
        future.set_result(number)
    await turns(2)
    assert (tasks, running) == ([None] * 3, set())


async def test_request_run_continues_in_the_iteration_that_serves_it() -> None:
    async def course() -> None:
        loop.call_soon(notes.futures[0].set_result, "served")  # as the first request of a batch does
        await notes.course()

    loop, notes, running = asyncio.get_running_loop(), Notes(futures=1), set[Any]()
    RequestRun(course(), running).start()
    await turns(1)
    assert (notes.seen, running) == (["begun", "served", "ended"], set())


@pytest.mark.parametrize("waited", [0, 1, 3])
async def test_request_run_is_cancelled_whenever_it_waits(waited: int) -> None:
    notes, running = Notes(futures=1), set[Any]()
    RequestRun(notes.course(), running).start()
    await turns(waited)
    [run] = running
    run.cancel()
    await turns(2)
    assert (notes.seen, running) == (["begun", asyncio.CancelledError, "ended"], set())


async def test_request_run_gets_a_task_where_it_needs_one() -> None:
    async def course() -> None:
        await notes.futures[0]
        await ensure_task()
        async with asyncio.timeout(100):
            tasks.append(asyncio.current_task())
            await notes.futures[1]

    notes, running = Notes(futures=2), set[Any]()
    tasks: list[object] = []
    asyncio.get_running_loop().call_soon(RequestRun(course(), running).start)
    await turns(1)
    notes.futures[0].set_result(None)
    await turns(4)
    assert running == set(tasks) != set()
    notes.futures[1].set_result(None)
    await turns(4)
    assert running == set()


@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
async def test_request_run_cancels_and_fails_what_it_awaits(outcome: str) -> None:
    notes, running = Notes(futures=1), set[Any]()
    RequestRun(notes.course(), running).start()
    [run] = running
    if outcome == "cancelled":
        run.cancel(msg="the server stops")
    else:
        notes.futures[0].set_exception(ZeroDivisionError())
    await turns(2)
    error = asyncio.CancelledError if outcome == "cancelled" else ZeroDivisionError
    assert (notes.seen, running) == (["begun", error, "ended"], set())


async def turns(count: int) -> None:
    """Let the event loop make its next turns."""
    for _ in range(count):
        await asyncio.sleep(0)
