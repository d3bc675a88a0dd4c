"""Tests that run on an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on an event loop; one that hangs fails."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        async def limited() -> None:
            async with asyncio.timeout(30):
                await test(**fixtures)

        asyncio.run(limited())

    return run
