"""The prediction cache: rings of answers in files beside the database. Sees keyed digests, never a text.

New answers overwrite the oldest ones, a batch with one call; `ring_index` knows where each one is. A row of a
B-tree costs several times as much: each new digest belongs to another page.

    put_many → new → begin_write → write (on the loop; on a slow disk, in a thread) → ring → end_write

The cache may be lost at any time, so no error of its files is raised: what cannot be read is a miss, what
cannot be written is dropped, and the reason is logged once. The call log never waits for these files.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import final

import msgspec

from tamis.clock import LOOP_IO
from tamis.storage.base import Answers, Scores
from tamis.storage.sqlite.commit import DiskSpeed
from tamis.storage.sqlite.ring import Ring
from tamis.storage.sqlite.ring_format import (
    MAX_SLOT_BYTES,
    MIN_SLOT_BYTES,
    is_slot_size,
    pack_facts,
    slot_bytes_for,
)

MAX_WAITING = 4_096
"""Answers that wait to be written; while a slow disk keeps as many waiting, further ones are dropped."""

RETRY_SECONDS = 10
"""Pause before files that failed are tried again."""

BATCH_ANSWERS = 256
"""This many answers are written at once, without waiting for more."""

DELAY_SECONDS = 0.02
"""How long answers wait for others."""

# a slot has four bytes for the second in which it expires
_MAX_SECONDS = 2**32 - 1

# JSON, because its shortest digits give back the very same double
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, float]).decode

_logger = logging.getLogger(__name__)

Waiting = Mapping[bytes, tuple[Scores, int]]
"""Keys, the scores under them and the second they expire."""

_Put = Callable[[int, Mapping[bytes, bytes]], None]  # writes keys' facts into the file with slots of a size


@final
class CacheFiles:
    """Scores under keys of 32 bytes until they expire, of each size at most `max_rows`.

    Each size of answers has a file of its own, whose slots, powers of two, just hold it; those of one
    model nearly always have the same. Several processes may use the same files, and learn of a new one
    when they write such an answer themselves. One that `is_alone` does not ask at every look-up what
    others have written. One thread at a time may call `open`, `write` and `close`; the rest is the loop's.
    """

    def __init__(self, database: Path, max_rows: int, *, is_alone: bool = False):
        self._database, self._max_rows, self._is_alone = database, max_rows, is_alone
        self._rings: Mapping[int, Ring] = {}  # replaced and never changed: the loop may be reading it
        self._new: dict[bytes, tuple[Scores, int]] = {}
        self._being_written: Waiting = {}
        self._fault: str | None = None
        self._retry_at = 0

    def open(self) -> None:
        """Open the files that exist, and make the one that nearly every answer needs."""
        self.close()
        # the smallest holds the answers of a model with few labels; opened now, so the loop can write it
        for slot_bytes in sorted({MIN_SLOT_BYTES, *self._existing_sizes()}):
            try:
                self._ring(slot_bytes)
            except OSError as failed:
                self._failed(failed)

    def close(self) -> None:
        """Close the files."""
        rings, self._rings = self._rings, {}
        for ring in rings.values():
            ring.close()

    def get_many(self, keys: Sequence[bytes], now_seconds: int) -> list[Scores | None]:
        """Return the answers under `keys` that have not expired."""
        answers: list[Scores | None] = [None] * len(keys)
        for ring in self._rings.values():
            try:
                if not self._is_alone:
                    ring.follow()
                for i, key in enumerate(keys):
                    found = ring.get(key, now_seconds)
                    if found is not None:
                        answers[i] = _decode(found)
            except (OSError, msgspec.MsgspecError):
                continue  # the next write meets the same fault and deals with it
        # the older first: what is being written stays until it expires, as a slot of a file does
        for waiting in (self._being_written, self._new):
            if waiting:
                for i, key in enumerate(keys):
                    scores, expires_at = waiting.get(key, (None, 0))
                    if answers[i] is None and expires_at > now_seconds:
                        answers[i] = scores
        return answers

    def put_many(self, answers: Answers, now_seconds: int, cache_seconds: float) -> int:
        """Keep answers, those that have not expired as they are; return how many wait to be written."""
        expires_at = min(now_seconds + int(cache_seconds), _MAX_SECONDS)
        for key, scores in answers.items():
            kept = self._new.get(key)
            if len(self._new) < MAX_WAITING and (kept is None or kept[1] <= now_seconds):
                self._new[key] = scores, expires_at
        return len(self._new)

    def begin_write(self) -> Waiting:
        """Return what waits, for `write`; until `end_write` it is still found by `get_many`."""
        self._being_written, self._new = self._new, {}
        return self._being_written

    def end_write(self) -> int:
        """Forget what was given to `write`; return how many answers wait by now."""
        self._being_written = {}
        return len(self._new)

    def write(self, waiting: Waiting, now_seconds: int) -> None:
        """Write answers; drop them while the files fail or another process holds them."""
        with suppress(BlockingIOError):
            self._try_to_write(waiting, now_seconds, lambda size, facts: self._ring(size).put(facts))

    def write_at_once(self, waiting: Waiting, now_seconds: int) -> bool:
        """Write answers, or return False if a file has to be opened or another process holds one."""
        try:
            self._try_to_write(waiting, now_seconds, self._put_at_once)
        except BlockingIOError:
            return False
        return True

    def _try_to_write(self, waiting: Waiting, now_seconds: int, put: _Put) -> None:
        if self._fault is not None and now_seconds < self._retry_at:
            return
        try:
            self._write(waiting, now_seconds, put)
        except BlockingIOError:
            raise
        except OSError as failed:
            # failing again for every batch would cost more than computing the answers
            self._retry_at = now_seconds + RETRY_SECONDS
            self._failed(failed)
        else:
            if self._fault is not None:
                _logger.info("cache file used again: %s", self._path("*"))
            self._fault = None

    def _write(self, waiting: Waiting, now_seconds: int, put: _Put) -> None:
        keys: Sequence[bytes] = [*waiting]
        for ring in self._rings.values():
            keys = ring.unknown(keys, now_seconds)
        by_size: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        for key in keys:
            scores, expires_at = waiting[key]
            facts = pack_facts(key, expires_at, _encode(scores))
            by_size[slot_bytes_for(facts)][key] = facts
        for slot_bytes, facts_of in by_size.items():
            if slot_bytes <= MAX_SLOT_BYTES:
                put(slot_bytes, facts_of)

    def _put_at_once(self, slot_bytes: int, facts_of: Mapping[bytes, bytes]) -> None:
        if slot_bytes not in self._rings:
            raise BlockingIOError
        self._rings[slot_bytes].put(facts_of, may_wait=False)

    def _ring(self, slot_bytes: int) -> Ring:
        ring = self._rings.get(slot_bytes)
        if ring is None:
            ring = Ring(self._path(slot_bytes), slot_bytes, self._max_rows)
            # a new mapping: the loop may be iterating over the old one
            self._rings = {**self._rings, slot_bytes: ring}
        return ring

    def _existing_sizes(self) -> list[int]:
        """Return the slot sizes of the files that exist; other names are not the cache's."""
        prefix = self._path("").name
        names = (path.name.removeprefix(prefix) for path in self._database.parent.glob(f"{prefix}*"))
        # longer names are no slot size, and `int` is slow for very long ones
        sizes = [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10]
        return [size for size in sizes if is_slot_size(size)]

    def _path(self, slot_bytes: int | str) -> Path:
        return self._database.with_name(f"{self._database.name}-cache{slot_bytes}")

    def _failed(self, failure: OSError) -> None:
        """Log what fails once, and close the files: the next attempt opens what is there by then."""
        fault = failure.strerror or str(failure)
        if fault != self._fault:
            _logger.warning("cache file not used: %s: %s", self._path("*"), fault)
        self._fault = fault
        self.close()


@final
class CacheWriter:
    """Writes the cache in batches: on the loop if the `disk` is known to be fast, or in a thread of its own.

    The thread costs more than a fast write: it needs the interpreter's lock again after every system call.
    """

    def __init__(self, cache: CacheFiles, now: Callable[[], int], *, cache_seconds: float, disk: DiskSpeed):
        """Take the files and a function that returns the seconds since 1970 `now`."""
        self._cache, self._now, self._cache_seconds, self._disk = cache, now, cache_seconds, disk
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tamis-cache")
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the cache's files."""
        await self._loop.run_in_executor(self._executor, self._open)

    async def close(self) -> None:
        """Write the waiting answers; close the files."""
        self._start()
        # answers may have arrived while the last ones were being written
        while self._writing is not None:
            await asyncio.wait([self._writing])
            self._start()
        await self._loop.run_in_executor(self._executor, self._cache.close)
        self._executor.shutdown()

    def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return what is stored under each key."""
        return self._cache.get_many(keys, self._now())

    def put_many(self, answers: Answers) -> None:
        """Keep answers in memory and write them soon."""
        n_waiting = self._cache.put_many(answers, self._now(), self._cache_seconds)
        if n_waiting >= BATCH_ANSWERS:
            self._start()
        elif self._timer is None and self._writing is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            return
        waiting = self._cache.begin_write()
        if not waiting or (self._disk.is_fast and self._write_on_loop(waiting)):
            self._cache.end_write()
        else:
            self._writing = self._loop.run_in_executor(self._executor, self._write, waiting, self._now())
            self._writing.add_done_callback(self._ended)

    def _write_on_loop(self, waiting: Waiting) -> bool:
        """Write without waiting for anything but a fast disk; return whether that was possible."""
        began = self._disk.now()
        try:
            with LOOP_IO:
                return self._cache.write_at_once(waiting, self._now())
        except Exception:  # outermost in a timer's callback: as in `_write`
            _logger.exception("cache not written")
            return True
        finally:
            self._disk.note_on_loop(began)

    def _ended(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        if self._cache.end_write() and self._timer is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self._start)

    def _open(self) -> None:
        try:
            self._cache.open()
        except Exception:  # outermost in the thread: without its cache the service goes on
            _logger.exception("cache not opened")

    def _write(self, waiting: Waiting, now_seconds: int) -> None:
        try:
            self._cache.write(waiting, now_seconds)
        except Exception:  # outermost in the thread: the cache may be lost, so the service goes on
            _logger.exception("cache not written")
