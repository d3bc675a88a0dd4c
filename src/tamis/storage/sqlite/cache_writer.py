"""The thread that writes cached answers, so that no request waits for the disk. Knows the cache only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import final

from tamis.storage.sqlite.cache import Cache


@final
class CacheWriter:
    """Writes what the cache has pending, one write at a time; the cache bounds how much may wait."""

    def __init__(self, cache: Cache, now_seconds: Callable[[], int]):
        self._cache, self._now_seconds = cache, now_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tamis-cache")
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the cache's files."""
        await self._loop.run_in_executor(self._executor, self._cache.open)

    def start(self) -> None:
        """Start to write what is pending, unless a write is running: it starts the next one."""
        if self._writing is None and self._cache.stage():
            self._writing = self._loop.run_in_executor(self._executor, self._cache.write, self._now_seconds())
            self._writing.add_done_callback(self._written)

    async def close(self) -> None:
        """Write what is pending, close the files and end the thread."""
        self.start()
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await self._loop.run_in_executor(self._executor, self._cache.close)
        self._executor.shutdown()

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        done.result()
        self.start()
