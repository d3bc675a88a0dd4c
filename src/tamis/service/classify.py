"""Classifies the texts of requests; predictions are returned in order, once each text is in the call log.

    classify ─► MicroBatch ─ flush ─► look up in the cache ─► model (texts that miss) ─► log rows ─► future
                                               └─ all texts of a request known ───────────┘

Requests that arrive within one iteration of the event loop share these steps. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from itertools import chain
from time import perf_counter
from typing import Any, final

from tamis.clock import Clock
from tamis.events import Events, RowsCommitted, TextsAnswered
from tamis.inference.batcher import Outcome
from tamis.inference.served_model import ServedModel
from tamis.service.eager_task import start_eagerly
from tamis.service.log_text import LogText, full_text
from tamis.service.micro_batch import Classified, Known, MicroBatch, PendingRequest, fail_all
from tamis.service.prediction_cache import LayeredPredictionCache
from tamis.storage import CallRecord, Scores, Store, TimeIds

_COMMIT_ROWS = 256  # per commit of a long list, see `_append`

_MAX_CHARACTERS_ON_LOOP = 16_384
"""Longer requests are normalised in a thread: the costliest texts take about a microsecond a character."""


@final
class ClassifyService:
    """Classifies the texts of concurrent requests in batches."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        cache: LayeredPredictionCache,
        events: Events,
        log_text: LogText = full_text,
    ):
        self._store, self._cache, self._log_text = store, cache, log_text
        self._emit = events.emit
        self._ids = TimeIds(clock)
        self._batches: deque[MicroBatch] = deque()
        self._is_flush_scheduled = False
        self._requests_this_tick = 0
        self._has_single_caller = False
        """Whether the last iteration had at most one request: then the next does not wait for a batch."""
        # by cache key: the batch that is scoring the text, and the text's index in it
        self._computing: dict[bytes, tuple[asyncio.Future[list[Outcome]], int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def this_hour(self) -> datetime:
        """Return the UTC hour in which a call is logged now, also after the clock stepped back."""
        return self._ids.this_hour()

    def classify(
        self,
        model: ServedModel,
        texts: Sequence[str],
        *,
        caller: str,
        logged_as: str = "",
        skip_cache: bool = False,
    ) -> asyncio.Future[list[Classified]]:
        """Return the future answers to `texts`; when it is done, they are in the log.

        `logged_as` is the name for the log if that is another one than the `caller` whose cache is used.

        Fails with OverloadedError if too many texts wait, and with whatever the model raises on one of the
        texts. Cancelling the future affects no other request.
        """
        loop = asyncio.get_running_loop()
        call = PendingRequest(
            model,
            texts,
            caller,
            logged_as or caller,
            skip_cache,
            self._ids.allocate(len(texts)),
            loop.create_future(),
        )
        self._enqueue(call)
        self._requests_this_tick += 1
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            loop.call_soon(self._flush)
            if self._has_single_caller:  # waiting for companions would only add latency
                self._serve_next_batch()
        return call.future

    async def finish(self) -> None:
        """Wait until all requests so far are answered."""
        while self._is_flush_scheduled or self._tasks:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))

    def _enqueue(self, call: PendingRequest) -> None:
        if not self._batches or not self._batches[-1].add(call):
            self._batches.append(MicroBatch(call.model, call.skip_cache, [call], len(call.texts)))

    def _flush(self) -> None:
        """Serve one batch; the next one is served in the following iteration, after the loop has done I/O."""
        self._has_single_caller, self._requests_this_tick = self._requests_this_tick <= 1, 0
        self._is_flush_scheduled = False
        self._serve_next_batch()

    def _serve_next_batch(self) -> None:
        if not self._batches:
            return
        calls = self._batches.popleft().calls
        if self._batches and not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)
        self._start(calls, self._serve(calls))

    def _start(self, calls: Sequence[PendingRequest], answering: Coroutine[Any, Any, None]) -> None:
        """Run `answering` until it waits, and the rest in a task; `calls` fail if it fails."""
        try:
            rest = start_eagerly(answering)
        except Exception as failed:  # noqa: BLE001 - reported to every waiting request
            fail_all(calls, failed)
            return
        if rest is None:
            return
        task = asyncio.get_running_loop().create_task(rest)
        self._tasks.add(task)  # the event loop keeps weak references only

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                for call in calls:
                    call.future.cancel()
            elif (error := task.exception()) is not None:
                fail_all(calls, error)

        task.add_done_callback(done)

    async def _serve(self, calls: Sequence[PendingRequest]) -> None:
        if sum(sum(map(len, call.texts)) for call in calls) <= _MAX_CHARACTERS_ON_LOOP:
            forms = self._forms(calls)
        else:
            forms = await asyncio.to_thread(self._forms, calls)
        known: Known = {} if calls[0].skip_cache else await self._cache.get(forms, calls[0].model.classifier)
        if len(known) == len(forms):
            await self._answer(calls, known, {})
            return
        if known:  # requests whose texts are all cached do not wait for the model
            incomplete = [call for call in calls if not all(key in known for key in call.keys)]
            if len(incomplete) < len(calls):
                complete = [call for call in calls if call not in incomplete]
                self._start(complete, self._answer(complete, known, {}))
                calls = incomplete
            forms = {key: form for key, form in forms.items() if key not in known}
        await self._answer(calls, known, await self._compute(calls[0].model, forms))

    def _forms(self, calls: Sequence[PendingRequest]) -> dict[bytes, str]:
        """Set the cache key and the normalised form of each text; return the distinct forms by key."""
        forms: dict[bytes, str] = {}
        model = calls[0].model.classifier
        form_of, digest, caller = model.form, model.identity, None
        for call in calls:
            if call.caller != caller:  # mostly the requests of a batch have the same
                caller = call.caller
                key_of = self._cache.keys(caller, digest).key
            call.forms = [*map(form_of, call.texts)]
            call.keys = [*map(key_of, call.forms)]
            forms.update(zip(call.keys, call.forms))  # noqa: B905 - `strict` is slow
        return forms

    async def _compute(self, model: ServedModel, forms: Mapping[bytes, str]) -> Mapping[bytes, Outcome]:
        """Classify texts; those that another batch is classifying already are not submitted again."""
        computing = self._computing
        # most batches share nothing: no comprehension is cheaper than one over every text
        shared = {key: computing[key] for key in forms if key in computing} if computing else {}
        own = {key: form for key, form in forms.items() if key not in shared} if shared else forms
        outcomes = await self._ask_model(model, own) if own else {}
        for key, (job, place) in shared.items():
            outcomes[key] = (await job)[place]
        return outcomes

    async def _ask_model(self, model: ServedModel, forms: Mapping[bytes, str]) -> dict[bytes, Outcome]:
        job = model.batcher.submit([*forms.values()], others_wait=bool(self._batches))
        if not job.done():
            self._computing.update((key, (job, place)) for place, key in enumerate(forms))
            try:
                await job
            finally:
                for key in forms:
                    del self._computing[key]
        outcomes = dict(zip(forms, job.result(), strict=True))
        self._cache.put(outcomes)  # at once: the next batch may have the same text
        return outcomes

    async def _answer(
        self, calls: Sequence[PendingRequest], known: Known, fresh: Mapping[bytes, Outcome]
    ) -> None:
        """Commit a row for every text, then answer."""
        rows: list[CallRecord] = []
        answers: list[tuple[PendingRequest, list[Classified]]] = []
        for call in calls:
            answer = call.answer(known, fresh)
            if answer is not None:
                answers.append((call, answer))
                rows += call.rows(answer, self._logged_texts(call.texts))
        new = [(key, found.scores) for key, found in fresh.items() if not isinstance(found, Exception)]
        # durability before the response: a client that has one finds the row in the log
        await self._append(rows, new)
        for call, answer in answers:
            if not call.future.done():  # its client may have disconnected during the commit
                call.future.set_result(answer)
        if answers:  # one event per batch: one per request would cost more than its subscribers do
            texts = [*chain.from_iterable(call.texts for call, _ in answers)]
            lengths = [*map(len, chain.from_iterable(call.forms for call, _ in answers))]
            predictions = [one.prediction for _, answer in answers for one in answer]
            self._emit(TextsAnswered(calls[0].model.digest, texts, lengths, predictions))

    def _logged_texts(self, texts: Sequence[str]) -> Sequence[str]:
        if self._log_text is full_text:
            return texts
        secret = self._cache.secret
        return [self._log_text(text, secret) for text in texts]

    async def _append(self, rows: Sequence[CallRecord], answers: Sequence[tuple[bytes, Scores]]) -> None:
        """Log rows and cache answers; a long list is committed in parts, with other requests between."""
        for start in range(0, len(rows), _COMMIT_ROWS):
            part, began = slice(start, start + _COMMIT_ROWS), perf_counter()
            caching = self._start_caching(answers[part])  # at the same time as the log, not after it
            await self._store.log.append(rows[part])
            if caching is not None:
                await caching
            self._emit(RowsCommitted(len(rows[part]), perf_counter() - began))

    def _start_caching(self, answers: Sequence[tuple[bytes, Scores]]) -> asyncio.Task[None] | None:
        """Start to cache answers; return a task if that has to wait, as on a cluster, else None."""
        rest = start_eagerly(self._store.cache.put_many(dict(answers))) if answers else None
        return None if rest is None else asyncio.get_running_loop().create_task(rest)
