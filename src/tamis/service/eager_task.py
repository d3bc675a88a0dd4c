"""Coroutines that run eagerly, without a task until they have to wait.

A task costs an iteration of the event loop before its first line and one after its last. A coroutine that
rarely waits is cheaper when it is called like a function. Python 3.12 has eager tasks for this; this module
does the same on 3.11, and on every event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
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
    # what is awaited is not a future, so the runner hands over to a task
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


@final
class RequestRun:
    """Runs a coroutine without a task, each time until a future that it waits for is done.

    Creating a task takes as long as a tenth of a short request. A task takes over when the coroutine waits
    for anything other than a future, as in `ensure_task`. `running` contains this object, or that task, from
    the first wait to the end; both have `cancel`.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_running")

    def __init__(self, coroutine: Coroutine[Any, Any, None], running: set[Any]):
        self._coroutine, self._running = coroutine, running
        self._context = copy_context()
        self._awaited: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Run until the first wait; raises what the coroutine raises before it."""
        self._context.run(self._step)

    def cancel(self, msg: str | None = None) -> None:
        """Cancel the awaited future, as cancelling a task does."""
        if self._awaited is not None:
            self._awaited.cancel(msg)

    def _step(self, _: object = None) -> None:
        try:
            awaited = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._running.discard(self)
            return
        if isinstance(awaited, asyncio.Future):
            self._awaited = awaited
            # set by the future's __await__ for a task, which would reset it as well
            awaited._asyncio_future_blocking = False
            # The next iteration of the event loop serves the batch; then the future is done and the coroutine
            # continues. A done-callback would run one iteration later, after a poll, and halve the batches.
            awaited.get_loop().call_soon(self._continue_or_wait, context=self._context)
            self._running.add(self)
        else:
            self._running.discard(self)
            rest = _Suspended(self._coroutine, awaited)
            task = asyncio.get_running_loop().create_task(rest, context=self._context)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _continue_or_wait(self) -> None:
        assert self._awaited is not None
        if self._awaited.done():
            self._step()
        else:
            self._awaited.add_done_callback(self._step, context=self._context)


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
        self._awaited.clear()  # cancelled before its first step: there is nothing to wait for
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("only a task can go on with this")
