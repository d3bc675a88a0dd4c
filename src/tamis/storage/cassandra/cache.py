"""The prediction cache on a cluster. Knows the table `answers`; holds no text.

Expiry is by the store's steady clock, as in every store; the table's own expiry, which follows the
nodes' clocks, comes an hour later and only clears away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import final

from tamis.errors import StoreError
from tamis.storage.base import Answers, ClusterOptions, Scores
from tamis.storage.cassandra.bridge import Bridge
from tamis.storage.cassandra.prepared import Prepared
from tamis.storage.expiry import SteadySeconds

_CLEARED_AFTER_SECONDS = 3_600
_KNOWN_MISSING = 10_000

_logger = logging.getLogger(__name__)


@final
class AnswerTable:
    """Looks answers up and remembers new ones."""

    def __init__(
        self,
        bridge: Bridge,
        prepared: Prepared,
        steady: SteadySeconds,
        *,
        options: ClusterOptions,
        cache_seconds: float,
    ):
        self._bridge, self._prepared, self._steady = bridge, prepared, steady
        self._options, self._cache_seconds = options, cache_seconds
        self._missing: dict[bytes, None] = {}

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look every key up; one that takes too long is not there."""
        distinct = list(dict.fromkeys(keys))
        found = dict(zip(distinct, await asyncio.gather(*map(self._get, distinct)), strict=True))
        self._note_missing(key for key in distinct if found[key] is None)
        return [found[key] for key in keys]

    async def put_many(self, answers: Answers) -> None:
        """Remember answers under keys that hold none; what was just looked up is not asked for again."""
        unsure = [key for key in answers if key not in self._missing]
        live = await self.get_many(unsure)
        taken = {key for key, scores in zip(unsure, live, strict=True) if scores is not None}
        await asyncio.gather(*(self._put(key, answers[key]) for key in answers if key not in taken))
        for key in answers:
            self._missing.pop(key, None)

    async def _get(self, key: bytes) -> Scores | None:
        try:
            found = await self._bridge.execute(
                self._prepared.read_answer.bind((key,)), seconds=self._options.cache_deadline_seconds
            )
        except StoreError as failed:
            if failed.__cause__ is None:  # it only took too long: computing the answer is quicker
                _logger.debug("a look-up was given up: %s", failed)
                return None
            raise
        for scores, expires_at in found.rows:
            if expires_at > self._steady.now():
                return dict(scores)
        return None

    async def _put(self, key: bytes, scores: Scores) -> None:
        expires_at = int(self._steady.now() + self._cache_seconds)
        life_seconds = int(self._cache_seconds) + _CLEARED_AFTER_SECONDS
        await self._bridge.execute(
            self._prepared.insert_answer.bind((key, scores, expires_at, life_seconds)),
            seconds=self._options.deadline_seconds,
        )

    def _note_missing(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._missing[key] = None
        while len(self._missing) > _KNOWN_MISSING:
            del self._missing[next(iter(self._missing))]
