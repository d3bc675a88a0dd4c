"""Coroutines that run eagerly, without a task until they have to wait.

A task costs an iteration of the event loop before its first line and one after its last. What mostly has
nothing to wait for is better called like a function. Python 3.12 has eager tasks for this; this is
the same for 3.11, and for every event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, final


def start_eagerly(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None] | None:
    """Run `coroutine` until it waits; return the rest of it for a task, or None if it has finished.

    Raises what the coroutine raises before it waits. Up to there it has no task of its own: before it
    needs the current task, as `asyncio.timeout` does, it awaits `ensure_task`.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return _Suspended(coroutine, awaited)


async def ensure_task() -> None:
    """Return when the coroutine that waits for this has a task."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


@final
class _Suspended(Coroutine[Any, Any, None]):
    """A coroutine that was started eagerly; its task first waits for what it already awaits."""

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any):
        self._coroutine, self._awaited = coroutine, [awaited]

    def send(self, value: None) -> Any:
        if self._awaited:
            awaited = self._awaited.pop()
            if not (asyncio.isfuture(awaited) and awaited.done()):
                return awaited
            # it is done by now: a task would find that out one loop iteration later
            awaited._asyncio_future_blocking = False
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._awaited.clear()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("only a task can go on with this")
