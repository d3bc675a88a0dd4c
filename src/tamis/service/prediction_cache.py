"""The prediction cache of all models: the most recent predictions in memory, the others in the store.

    key = keyed digest of (model's digest, caller unless the cache is shared, text)
    get ─► memory (LRU, 60 s) ─► store ─► the prediction, which then is in memory, too

A key contains the model's digest, so a version never finds a prediction of another one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import final

from tamis.clock import Clock
from tamis.events import CacheQueried, Events
from tamis.inference.classifier import Classifier
from tamis.storage import CacheKeys, PredictionCache
from tamis.types import Prediction

# one key maker per caller and version; callers are unbounded, so beyond it all are dropped
_MAX_KEYS = 4_096
_MEMORY_SECONDS = 60.0
"""What expires in the store, or is deleted there, is evicted from memory this much later at most."""


@final
class LayeredPredictionCache:
    """Predictions by cache key, in memory and in the store."""

    def __init__(
        self,
        cache: PredictionCache,
        clock: Clock,
        *,
        memory_rows: int,
        is_shared: bool = False,
        events: Events,
    ):
        """Unless it `is_shared`, a caller finds only predictions of texts that it sent itself.

        So neither `from_cache` nor the response time reveals what another caller has sent.
        """
        self._cache, self._clock = cache, clock
        self._emit = events.emit
        self._memory_rows, self._is_shared = memory_rows, is_shared
        self._memory: OrderedDict[bytes, tuple[Prediction, float]] = OrderedDict()
        self._secret = b""
        self._keys: dict[tuple[str, str], CacheKeys] = {}

    @property
    def secret(self) -> bytes:
        """The store's key."""
        return self._cache.secret

    def keys(self, caller: str, digest: str) -> CacheKeys:
        """Return the key maker of a caller for a version."""
        # a store file that was replaced has a new secret, which makes all keys of the old one useless
        secret = self._cache.secret
        if secret != self._secret or len(self._keys) > _MAX_KEYS:
            self._secret, self._keys = secret, {}
        owner = "" if self._is_shared else caller
        keys = self._keys.get((owner, digest))
        if keys is None:
            options = f"caller {owner}" if owner else ""
            keys = self._keys[owner, digest] = CacheKeys(secret, model=digest, options=options)
        return keys

    async def get(self, keys: Collection[bytes], classifier: Classifier) -> dict[bytes, Prediction]:
        """Return the cached predictions by key, with exactly the digits that were first returned."""
        now, memory = self._clock.monotonic(), self._memory
        known: dict[bytes, Prediction] = {}
        unknown: list[bytes] = []
        for key in keys:
            kept = memory.get(key)
            if kept is None or kept[1] <= now:  # expired: the store decides whether it still has it
                unknown.append(key)
            else:
                known[key] = kept[0]
                memory.move_to_end(key)
        in_memory = len(known)
        if unknown:
            stored = await self._get_from_store(unknown, classifier)
            if stored:
                self.put(stored)
                known |= stored
        self._emit(CacheQueried(in_memory, len(known) - in_memory, len(keys) - len(known)))
        return known

    def put(self, outcomes: Mapping[bytes, Prediction | Exception]) -> None:
        """Keep predictions in memory; evict the least recently used."""
        memory, until = self._memory, self._clock.monotonic() + _MEMORY_SECONDS
        for key, outcome in outcomes.items():
            if not isinstance(outcome, Exception):  # a text that failed is scored again the next time
                memory.pop(key, None)  # a new value moves to the end
                memory[key] = (outcome, until)
        while len(memory) > self._memory_rows:
            memory.popitem(last=False)

    async def _get_from_store(self, keys: Sequence[bytes], classifier: Classifier) -> dict[bytes, Prediction]:
        restored: dict[bytes, Prediction] = {}
        for key, scores in zip(keys, await self._cache.get_many(keys), strict=True):
            prediction = None if scores is None else classifier.restored(scores)
            if prediction is not None:
                restored[key] = prediction
        return restored
