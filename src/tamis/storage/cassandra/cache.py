"""The prediction cache on a cluster. Knows the table `answers`; holds no text.

Expiry is by the store's steady clock, as in every store; the table's TTL, which follows the nodes' clocks,
ends an hour later and only frees the space.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import final

from tamis.clock import SteadyClock
from tamis.errors import StoreError
from tamis.storage.base import Answers, ClusterOptions, PredictionCache, Scores
from tamis.storage.cassandra.statements import ClusterConnection

# the TTL only removes rows, `expires_at` decides: it must not be earlier when clocks differ
_EXTRA_TTL_SECONDS = 3_600
# keys, the oldest are forgotten first
_MAX_MISSING = 10_000

_logger = logging.getLogger(__name__)


@final
class ClusterCache(PredictionCache):
    """The table `answers`."""

    def __init__(
        self,
        connection: ClusterConnection,
        steady: SteadyClock,
        *,
        options: ClusterOptions,
        cache_seconds: float,
    ):
        self._connection, self._steady = connection, steady
        self._options, self._cache_seconds = options, cache_seconds
        self._missing: dict[bytes, None] = {}

    @property
    def secret(self) -> bytes:
        """The key that was made when the tables were first opened."""
        return self._connection.current.secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Look up every key on one replica; a lookup that times out is a miss."""
        distinct = list(dict.fromkeys(keys))
        found = dict(zip(distinct, await asyncio.gather(*map(self._get, distinct)), strict=True))
        self._note_missing(key for key in distinct if found[key] is None)
        return [found[key] for key in keys]

    async def put_many(self, answers: Answers) -> None:
        """Store answers under keys without one; keys that were just missed are not looked up again."""
        unsure = [key for key in answers if key not in self._missing]
        live = await self.get_many(unsure)
        in_use = {key for key, scores in zip(unsure, live, strict=True) if scores is not None}
        await asyncio.gather(*(self._put(key, answers[key]) for key in answers if key not in in_use))
        for key in answers:
            self._missing.pop(key, None)

    async def _get(self, key: bytes) -> Scores | None:
        try:
            found = await self._connection.current.session.execute(
                self._connection.current.statements.read_answer.bind((key,)),
                seconds=self._options.cache_deadline_seconds,
            )
        except StoreError as failed:
            if failed.__cause__ is None:  # timed out: computing the answer is faster
                _logger.debug("cache lookup timed out: %s", failed)
                return None
            raise
        for scores, expires_at in found.rows:
            if expires_at > self._steady.now():
                return dict(scores)
        return None

    async def _put(self, key: bytes, scores: Scores) -> None:
        expires_at = int(self._steady.now() + self._cache_seconds)
        life_seconds = int(self._cache_seconds) + _EXTRA_TTL_SECONDS
        await self._connection.current.session.execute(
            self._connection.current.statements.insert_answer.bind((key, scores, expires_at, life_seconds)),
            seconds=self._options.deadline_seconds,
        )

    def _note_missing(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._missing[key] = None
        while len(self._missing) > _MAX_MISSING:
            del self._missing[next(iter(self._missing))]
