"""Brings texts from many callers to the model in batches.

Texts that come together leave together, at once if the model is idle; what comes while it is busy
forms the next batch. There is no waiting time to choose. Knows texts and futures; knows no cache, no
store and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import final

import msgspec

from tamis.clock import Clock
from tamis.errors import OverloadedError
from tamis.events import BatchScored, Events
from tamis.inference.classifier import Classifier
from tamis.types import Prediction

BATCH_TEXTS = 128
BATCH_CHARS = 32_000
"""The loop is kept for a few milliseconds at most, whatever a list brings."""

_BRIEF_SECONDS = 0.002
"""A heavy model's batch that takes no longer is computed on the loop: between two threads it would be cut
into smaller ones, and a lone text would wait for the hand-over there and back."""

_MEMORY_OF_SPEED = 0.9
"""Weight that the measured speed keeps with every batch: the last ten count."""

Outcome = Prediction | Exception
"""What became of one text."""


class _Job(msgspec.Struct, eq=False):
    """Texts that came together, and the future of whoever waits for them."""

    texts: Sequence[str]
    future: asyncio.Future[list[Outcome]]
    outcomes: list[Outcome]
    arrived: float
    others_wait: bool
    taken: int = 0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep what became of the texts that were taken; tell who waits, if they still do."""
        self.outcomes += outcomes
        if len(self.outcomes) == len(self.texts) and not self.future.done():
            self.future.set_result(self.outcomes)


class _Batch(msgspec.Struct, eq=False):
    """Texts that are scored together, and how many of them, one behind the other, are whose."""

    texts: list[str] = []
    shares: list[tuple[_Job, int]] = []
    chars: int = 0

    def take_from(self, job: _Job) -> None:
        """Take the next texts that there is room for, at least one."""
        texts = [*job.texts[job.taken : job.taken + BATCH_TEXTS - len(self.texts)]]
        chars = sum(map(len, texts))
        while len(texts) > 1 and self.chars + chars > BATCH_CHARS:
            chars -= len(texts.pop())
        job.taken += len(texts)
        self.texts += texts
        self.chars += chars
        self.shares.append((job, len(texts)))


@final
class Batcher:
    """Classifies texts in batches: a light model on the loop's thread, a heavy one beside it.

    A heavy model too works on the loop where nothing else waits for the loop and the batch is brief, as
    far as the speed of the last ones tells. A text that the model fails on fails alone. What cannot be
    begun within `max_queue_seconds`, as far as that tells, is refused at once.
    """

    def __init__(
        self,
        classifier: Classifier,
        clock: Clock,
        *,
        max_queue_seconds: float,
        events: Events,
    ):
        self._classifier, self._clock, self._max_queue_seconds = classifier, clock, max_queue_seconds
        self._emit = events.emit
        self._jobs: deque[_Job] = deque()
        self._waiting_texts = 0
        self._is_running = False
        self._batch_began, self._batch_texts = 0.0, 0
        self._measured_texts = self._measured_seconds = 0.0
        self._scored_chars = self._scored_seconds = 0.0
        self._executor: ThreadPoolExecutor | None = None

    @property
    def waiting_texts(self) -> int:
        """The number of texts that have not been answered, those at the model included."""
        return self._waiting_texts

    @property
    def waiting_seconds(self) -> float:
        """The time after which a text that arrives now would be begun."""
        if not self._waiting_texts or not self._measured_texts:
            return 0.0
        return self._waiting_texts * self._measured_seconds / self._measured_texts

    def submit(self, texts: Sequence[str], *, others_wait: bool = False) -> asyncio.Future[list[Outcome]]:
        """Return the future outcomes of canonical `texts`; raise OverloadedError if they came too late.

        A light and idle model has answered the first of them when this returns; so has a heavy one
        often, unless `others_wait` for whatever the loop could do meanwhile.

        A caller that leaves cancels the future and disturbs nobody.
        """
        seconds = self.waiting_seconds
        if seconds > self._max_queue_seconds:
            raise OverloadedError(ceil(seconds))
        loop = asyncio.get_running_loop()
        job = _Job(texts, loop.create_future(), [], self._clock.monotonic(), others_wait)
        if not texts:
            job.future.set_result(job.outcomes)
            return job.future
        self._jobs.append(job)
        self._waiting_texts += len(texts)
        if not self._is_running:
            self._is_running = True
            self._next()
        return job.future

    async def close(self) -> None:
        """End the thread, if there is one; its last batch is waited for."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)

    def _next(self) -> None:
        """Begin the next batch. From one beginning to the next is what a batch takes under load."""
        now = self._clock.monotonic()
        if self._batch_texts:
            self._measured_texts = self._measured_texts * _MEMORY_OF_SPEED + self._batch_texts
            self._measured_seconds = self._measured_seconds * _MEMORY_OF_SPEED + now - self._batch_began
        batch = self._take_batch()
        self._batch_began, self._batch_texts = now, len(batch.texts)
        if not batch.texts:
            self._is_running = False
        elif self._classifier.is_heavy and not self._may_hold_the_loop(batch):
            self._score_in_thread(batch)
        else:
            self._settle(batch, _outcomes(self._classifier, batch.texts))
            asyncio.get_running_loop().call_soon(self._next)

    def _may_hold_the_loop(self, batch: _Batch) -> bool:
        """Whether nothing else waits, and what a heavy model takes is known to be short."""
        if self._jobs or not self._scored_chars or any(job.others_wait for job, _ in batch.shares):
            return False
        return batch.chars * self._scored_seconds / self._scored_chars <= _BRIEF_SECONDS

    def _take_batch(self) -> _Batch:
        """Take from each job in turn; a long list goes on behind those who came meanwhile."""
        batch = _Batch()
        while self._jobs and len(batch.texts) < BATCH_TEXTS and batch.chars < BATCH_CHARS:
            job = self._jobs.popleft()
            if job.future.done():
                self._waiting_texts -= len(job.texts) - job.taken
                continue
            batch.take_from(job)
            if job.taken < len(job.texts):
                self._jobs.append(job)
                break
        return batch

    def _score_in_thread(self, batch: _Batch) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="tamis-model")
        loop = asyncio.get_running_loop()
        scored = loop.run_in_executor(self._executor, _outcomes, self._classifier, batch.texts)

        def done(scored: asyncio.Future[list[Outcome]]) -> None:
            self._settle(batch, scored.result())
            self._next()

        scored.add_done_callback(done)

    def _settle(self, batch: _Batch, outcomes: list[Outcome]) -> None:
        score_seconds = self._clock.monotonic() - self._batch_began
        self._scored_seconds = self._scored_seconds * _MEMORY_OF_SPEED + score_seconds
        self._scored_chars = self._scored_chars * _MEMORY_OF_SPEED + batch.chars
        self._waiting_texts -= len(outcomes)
        start, first_arrived = 0, self._batch_began
        for job, count in batch.shares:
            job.add(outcomes[start : start + count])
            start += count
            first_arrived = min(first_arrived, job.arrived)
        self._emit(
            BatchScored(
                len(outcomes),
                self._batch_began - first_arrived,
                score_seconds,
                self._waiting_texts,
                self.waiting_seconds,
            )
        )


def _outcomes(classifier: Classifier, texts: Sequence[str]) -> list[Outcome]:
    """Classify; where the batch fails, each text by itself, so that only the guilty one fails."""
    try:
        return [*classifier.predict_canonical(texts)]
    except Exception as failed:  # noqa: BLE001 - the batch worker: the error goes to whoever sent the text
        if len(texts) == 1:
            return [failed]
    return [outcome for text in texts for outcome in _outcomes(classifier, [text])]
