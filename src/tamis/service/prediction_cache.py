"""Answers that are known already: the last ones in memory, the others in the store.

Knows keys, scores and the store; does not know how a new answer is found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import final

from tamis.clock import Clock
from tamis.inference.classifier import Classifier
from tamis.storage import CacheKeys, PredictionCache
from tamis.types import Prediction

_MAX_KEYS = 4_096
_MEMORY_SECONDS = 60.0
"""What expires in the store, or is deleted there, is gone from memory this much later at most."""


def no_count(from_memory: int, from_store: int, unknown: int) -> None:
    """Count nothing."""


@final
class LayeredPredictionCache:
    """The answers of one model; another model's have other keys and are never found."""

    def __init__(
        self,
        classifier: Classifier,
        cache: PredictionCache,
        clock: Clock,
        *,
        memory_rows: int,
        is_shared: bool = False,
        count: Callable[[int, int, int], None] = no_count,
    ):
        """Take, among others, who is to `count` the answers from memory, from the store and from nowhere.

        Unless it `is_shared`, a caller finds only answers to what it sent itself: neither the flag nor
        the time of a response tells one caller what another has sent.
        """
        self._classifier, self._cache, self._clock = classifier, cache, clock
        self._count = count
        self._memory_rows, self._is_shared = memory_rows, is_shared
        self._memory: OrderedDict[bytes, tuple[Prediction, float]] = OrderedDict()
        self._secret = b""
        self._keys: dict[str, CacheKeys] = {}

    def keys(self, caller: str) -> CacheKeys:
        """Return what makes a caller's keys; the secret is the store's, which a new file changes."""
        secret = self._cache.secret
        if secret != self._secret or len(self._keys) > _MAX_KEYS:
            self._secret, self._keys = secret, {}
        owner = "" if self._is_shared else caller
        keys = self._keys.get(owner)
        if keys is None:
            options = f"caller {owner}" if owner else ""
            keys = self._keys[owner] = CacheKeys(secret, model=self._classifier.identity, options=options)
        return keys

    async def look_up(self, keys: Collection[bytes]) -> dict[bytes, Prediction]:
        """Return what is known under `keys`, digit for digit as it was first answered."""
        now, memory = self._clock.monotonic(), self._memory
        known: dict[bytes, Prediction] = {}
        unknown: list[bytes] = []
        for key in keys:
            kept = memory.get(key)
            if kept is None or kept[1] <= now:
                unknown.append(key)
            else:
                known[key] = kept[0]
                memory.move_to_end(key)
        in_memory = len(known)
        if unknown:
            stored = await self._look_up_in_store(unknown)
            if stored:
                self.remember(stored)
                known |= stored
        self._count(in_memory, len(known) - in_memory, len(keys) - len(known))
        return known

    def remember(self, outcomes: Mapping[bytes, Prediction | Exception]) -> None:
        """Keep answers in memory; those that were not asked for longest make room."""
        memory, until = self._memory, self._clock.monotonic() + _MEMORY_SECONDS
        for key, outcome in outcomes.items():
            if not isinstance(outcome, Exception):
                memory.pop(key, None)  # what comes anew stands last
                memory[key] = (outcome, until)
        while len(memory) > self._memory_rows:
            memory.popitem(last=False)

    async def _look_up_in_store(self, keys: Sequence[bytes]) -> dict[bytes, Prediction]:
        restored: dict[bytes, Prediction] = {}
        for key, scores in zip(keys, await self._cache.get_many(keys), strict=True):
            prediction = None if scores is None else self._classifier.restored(scores)
            if prediction is not None:
                restored[key] = prediction
        return restored
