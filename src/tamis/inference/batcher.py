"""Adaptive micro-batching: texts of many requests are scored together.

    submit ─► job in the queue ─► model idle: batch at once ─┬─► light model, or a brief batch: on the loop
                 ▲                model busy: the next batch ─┴─► heavy model: in one thread
                 └── a list that did not fit into the batch goes to the end of the queue
    outcomes ─► futures of the jobs, in the order of their texts ─► BatchScored

An idle model scores at once; texts that arrive while it works form the next batch, so there is no
waiting time to configure. Handles texts and futures; independent of cache, store and HTTP.
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
"""Limits of one batch: it blocks the event loop for a few milliseconds at most."""

_BRIEF_SECONDS = 0.002
"""A heavy model's batch that is expected to take no longer is scored on the event loop.

A thread would add two hand-overs to the latency of a single text, and would split the batch: the loop
submits texts one by one while the thread works."""

_SPEED_DECAY = 0.9
"""Weight of the earlier batches in the measured speed: about the last ten count."""

Outcome = Prediction | Exception
"""The prediction for one text, or the error that the model raised on it."""


class _Job(msgspec.Struct, eq=False):
    """The texts of one request, and the future with their outcomes."""

    texts: Sequence[str]
    future: asyncio.Future[list[Outcome]]
    outcomes: list[Outcome]
    arrived: float
    others_wait: bool
    taken: int = 0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes of the next texts; after the last one complete the future."""
        self.outcomes += outcomes
        if len(self.outcomes) == len(self.texts) and not self.future.done():
            self.future.set_result(self.outcomes)


class _Batch(msgspec.Struct, eq=False):
    """Texts that are scored together; `shares` are the jobs in order, each with its number of texts."""

    # msgspec makes new lists for every object
    texts: list[str] = []
    shares: list[tuple[_Job, int]] = []
    chars: int = 0

    def take_from(self, job: _Job) -> None:
        """Take the next texts that there is room for, at least one."""
        # cut by number, then by characters; one text is always taken, or a long one would wait for ever
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
    """Classifies texts in batches: a light model on the event loop, a heavy one in a thread.

    A heavy model also scores on the loop if nothing else waits and the batch is brief by the measured
    speed. A text on which the model fails does not fail the others of its batch. Texts that could not be
    started within `max_queue_seconds` are refused at once.
    """

    def __init__(self, classifier: Classifier, clock: Clock, *, max_queue_seconds: float, events: Events):
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
        """The number of texts in the queue and in the current batch."""
        return self._waiting_texts

    @property
    def waiting_seconds(self) -> float:
        """The expected wait of a text that arrives now, from the measured speed."""
        if not self._waiting_texts or not self._measured_texts:
            return 0.0
        return self._waiting_texts * self._measured_seconds / self._measured_texts

    def submit(self, texts: Sequence[str], *, others_wait: bool = False) -> asyncio.Future[list[Outcome]]:
        """Return a future with the outcomes of canonical `texts`, in order.

        Raises OverloadedError if they would wait too long. If the model is idle and light, the future may
        be done on return; so may a heavy model's, unless `others_wait` for the event loop. Cancelling the
        future affects no other request.
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
        """Wait for the last batch and end the thread, if there is one."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)

    def _next(self) -> None:
        """Start the next batch. Under load, the time between two starts is what a batch takes."""
        now = self._clock.monotonic()
        if self._batch_texts:
            self._measured_texts = self._measured_texts * _SPEED_DECAY + self._batch_texts
            self._measured_seconds = self._measured_seconds * _SPEED_DECAY + now - self._batch_began
        batch = self._take_batch()
        self._batch_began, self._batch_texts = now, len(batch.texts)
        if not batch.texts:
            self._is_running = False
        elif self._classifier.is_heavy and not self._may_hold_the_loop(batch):
            self._score_in_thread(batch)
        else:
            self._settle(batch, _outcomes(self._classifier, batch.texts))
            # not called directly: the loop reads the sockets first, and their texts join the next batch
            asyncio.get_running_loop().call_soon(self._next)

    # a heavy batch on the loop delays every other request: only if none waits, and for 2 ms at most
    def _may_hold_the_loop(self, batch: _Batch) -> bool:
        """Return whether nothing else waits, and the batch is expected to be brief."""
        if self._jobs or not self._scored_chars or any(job.others_wait for job, _ in batch.shares):
            return False
        return batch.chars * self._scored_seconds / self._scored_chars <= _BRIEF_SECONDS

    def _take_batch(self) -> _Batch:
        """Take texts from each job in turn; a long list continues after the jobs that arrived meanwhile."""
        batch = _Batch()
        while self._jobs and len(batch.texts) < BATCH_TEXTS and batch.chars < BATCH_CHARS:
            job = self._jobs.popleft()
            if job.future.done():  # cancelled: its client has left
                self._waiting_texts -= len(job.texts) - job.taken
                continue
            batch.take_from(job)
            if job.taken < len(job.texts):
                self._jobs.append(job)
                break
        return batch

    def _score_in_thread(self, batch: _Batch) -> None:
        if self._executor is None:
            # made for the first long batch: a light model needs no thread
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="tamis-model")
        loop = asyncio.get_running_loop()
        scored = loop.run_in_executor(self._executor, _outcomes, self._classifier, batch.texts)

        def done(scored: asyncio.Future[list[Outcome]]) -> None:
            self._settle(batch, scored.result())
            self._next()

        scored.add_done_callback(done)

    def _settle(self, batch: _Batch, outcomes: list[Outcome]) -> None:
        score_seconds = self._clock.monotonic() - self._batch_began
        self._scored_seconds = self._scored_seconds * _SPEED_DECAY + score_seconds
        self._scored_chars = self._scored_chars * _SPEED_DECAY + batch.chars
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
    """Classify the batch; if it fails, each text by itself, so that only the text at fault fails."""
    try:
        return [*classifier.predict_canonical(texts)]
    except Exception as failed:  # noqa: BLE001 - the batch worker: the error goes to the request
        if len(texts) == 1:
            return [failed]
    return [outcome for text in texts for outcome in _outcomes(classifier, [text])]
