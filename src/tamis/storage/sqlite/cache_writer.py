"""Writes the prediction cache in a thread of its own: no answer and no commit waits for its disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import final

from tamis.storage.base import Answers, Scores
from tamis.storage.sqlite.cache import Cache, Waiting

BATCH = 256
"""As many answers are written at once, without waiting for more."""

DELAY_SECONDS = 0.005
"""How long answers wait for others."""

_logger = logging.getLogger(__name__)


@final
class CacheWriter:
    """Gives answers to `cache` in batches, one at a time; what arrives meanwhile is the next batch."""

    def __init__(self, cache: Cache, now: Callable[[], int], *, cache_seconds: float):
        """Take, among others, what gives the second since 1970 that it is `now`."""
        self._cache, self._now, self._cache_seconds = cache, now, cache_seconds
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tamis-cache")
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the cache's files."""
        await self._loop.run_in_executor(self._executor, self._open)

    async def close(self) -> None:
        """Write what waits and close the files."""
        self._start()
        while self._writing is not None:
            await asyncio.wait([self._writing])
            self._start()
        await self._loop.run_in_executor(self._executor, self._cache.close)
        self._executor.shutdown()

    def look_up(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what is remembered under each key."""
        return self._cache.look_up(keys, self._now())

    def remember(self, answers: Answers) -> None:
        """Keep answers in memory and write them soon."""
        n_waiting = self._cache.remember(answers, self._now(), self._cache_seconds)
        if self._writing is not None:
            return
        if n_waiting >= BATCH:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            return
        waiting = self._cache.begin_write()
        if waiting:
            self._writing = self._loop.run_in_executor(self._executor, self._write, waiting, self._now())
            self._writing.add_done_callback(self._ended)

    def _ended(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        if self._cache.end_write() and self._timer is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self._start)

    def _open(self) -> None:
        try:
            self._cache.open()
        except Exception:
            _logger.exception("cache not opened")

    def _write(self, waiting: Waiting, now_seconds: int) -> None:
        try:
            self._cache.write(waiting, now_seconds)
        except Exception:  # a defect must not end the service: the cache may be lost, the log may not
            _logger.exception("cache not written")
