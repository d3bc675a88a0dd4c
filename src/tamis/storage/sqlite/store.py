"""The store in one SQLite file. Knows when to ask SQLite for what; the SQL is its neighbours'."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import final

import apsw

from tamis.clock import Clock
from tamis.errors import StoreError
from tamis.storage.base import (
    NO_ANSWERS,
    PAGE_CHARS,
    PAGE_ROWS,
    Answers,
    CallQuery,
    Health,
    HourCount,
    Page,
    Scores,
    Store,
    StoreOptions,
    check_calls,
)
from tamis.storage.expiry import SteadySeconds
from tamis.storage.io_time import LOOP_IO
from tamis.storage.keys import called_at, decode_cursor, encode_cursor, first_id
from tamis.storage.sqlite import log
from tamis.storage.sqlite.connection import File, transaction
from tamis.storage.sqlite.opened import Opened
from tamis.storage.sqlite.schema import version_of
from tamis.types import CallRecord

_STEPS_OF_A_PAGE = 50

_LOOK_SECONDS = 1.0
"""A lost file is noticed by each commit, and otherwise within this time."""

_logger = logging.getLogger(__name__)


@final
class SqliteStore(Store):
    """Calls in a file, and answers beside it, that several processes of one machine may share."""

    def __init__(self, path: Path, clock: Clock, options: StoreOptions | None = None):
        self._options = options or StoreOptions()
        self._file = File(path, self._options.full_durability)
        self._clock = clock
        self._steady = SteadySeconds(clock)
        self._now: Opened | None = None
        self._opening = asyncio.Lock()
        self._next_look: asyncio.TimerHandle | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Create the file if it is missing, bring its tables up to date and connect."""
        async with self._opening:
            await self._close()
            await self._open()

    async def close(self) -> None:
        """Commit what is waiting and let go of the file."""
        async with self._opening:
            await self._close()

    async def migrate(self) -> None:
        """Do what `open` does: the tables of an embedded store follow the program."""
        was_open = self._now is not None
        await self.open()
        if not was_open:
            await self.close()

    async def check(self) -> Health:
        """Write the time of this check into the file."""
        opened, seconds = self._opened(), self._steady.now()

        def touch(connection: apsw.Connection) -> int:
            opened.files.require_same()
            with transaction(connection):
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('checked_at', ?)", (str(seconds).encode(),)
                )
            opened.files.require_same()
            return version_of(connection)

        return Health(f"sqlite:{self._file.path}", await opened.writer.run(touch))

    @property
    def secret(self) -> bytes:
        """The key that was made with the file."""
        return self._opened().secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look the keys up on the loop's own thread: nothing there waits, also while it is reopened."""
        if self._now is None and self._opening.locked():
            return [None] * len(keys)
        with LOOP_IO:  # a read waits for no lock, but may for the disk
            return self._opened().cache.look_up(keys)

    async def append(self, calls: Sequence[CallRecord], answers: Answers = NO_ANSWERS) -> None:
        """Commit the calls, with those that wait for the writer's thread, and remember the answers."""
        check_calls(calls)
        # while it is being reopened: wait for that
        opened = self._now if self._now is not None else await self._reopened(None)
        if calls:
            try:
                await opened.commit.commit(calls)
            except StoreError:
                if not opened.files.has_lost_companions:
                    raise
                opened = await self._reopened(opened)
                await opened.commit.commit(calls)
        if answers:
            opened.cache.remember(answers)

    async def calls(self, query: CallQuery, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Read in short steps, each a transaction of its own."""
        reader = self._opened().reader
        left = log.Span.of(query, None if after is None else decode_cursor(after))
        found: list[CallRecord] = []
        room = PAGE_CHARS
        for _ in range(_STEPS_OF_A_PAGE):
            step = await reader.run(log.read_step(query, left, limit - len(found), room))
            found += step.calls
            room -= sum(len(call.text) for call in step.calls)
            if step.left is None:
                return Page(found, None)
            left = step.left
            if len(found) == limit or room <= 0:
                break
        return Page(found, encode_cursor(left.high if query.newest_first else left.low[:-1]))

    async def summary(self, query: CallQuery) -> list[HourCount]:
        """Count hour by hour, large hours in parts."""
        reader = self._opened().reader
        counts: Counter[tuple[int, str]] = Counter()
        left: log.Span | None = log.Span.of(query, None)
        while left is not None:
            some, left = await reader.run(log.count_step(query, left))
            for count in some:
                counts[count.ticks, count.label] += count.count
        return [
            HourCount(called_at(first_id(ticks)), label, counts[ticks, label])
            for ticks, label in sorted(counts)
        ]

    async def delete_before(self, moment: datetime) -> int:
        """Delete a thousand rows at a time; writers go between."""
        return await self._delete(CallQuery(until=moment))

    async def delete_caller(self, caller: str) -> int:
        """Delete a thousand rows at a time, and overwrite what they held."""
        return await self._delete(CallQuery(caller=caller))

    async def tidy(self) -> None:
        """Write the WAL back now; it is done by itself from time to time."""
        await self._opened().upkeep.run()

    async def _delete(self, query: CallQuery) -> int:
        opened, step = self._opened(), log.delete_step(query)
        total, more = 0, True
        while more:
            deleted, more = await opened.writer.run(step)
            total += deleted
        await opened.upkeep.truncate()  # the deleted texts must not live on in the WAL
        return total

    async def _open(self) -> None:
        self._now = await Opened.open(self._file, self._clock, self._options, now=self._steady.now)
        self._look_later()

    async def _close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        opened, self._now = self._now, None
        if opened is not None:
            await opened.close()

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Rescue a lost WAL also while nothing is committed, before the process ends with it."""
        if self._now is None:
            return
        with suppress(StoreError):  # from now on every commit is refused
            self._now.files.require_same()
        if self._now.files.has_lost_companions:
            self._reopening = asyncio.create_task(self._reopen_if_possible(self._now))
        else:
            self._look_later()

    async def _reopen_if_possible(self, lost: Opened) -> None:
        try:
            await self._reopened(lost)
        except StoreError as failed:  # the next append meets the same fault and answers for it
            _logger.warning("store not reopened: %s", failed)

    async def _reopened(self, lost: Opened | None) -> Opened:
        """Open afresh what is `lost`, unless that has been done meanwhile; return what is open."""
        async with self._opening:
            if lost is not None and self._now is lost:
                await self._close()
                await self._open()
            return self._opened()

    def _opened(self) -> Opened:
        if self._now is None:
            raise StoreError(f"{self._file.path}: the store is not open", fault="unavailable")
        return self._now
