"""The use case: texts in, answers out, in the same order, each text logged before its answer leaves.

The one place where the model meets the log and the cache. What arrives within one turn of the event
loop is looked up together, classified together and logged together. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any, final

from tamis.clock import Clock
from tamis.errors import OverloadedError
from tamis.inference.batcher import Batcher, Outcome
from tamis.inference.classifier import Classifier
from tamis.records import CallRecord, Prediction
from tamis.service.answer_cache import AnswerCache
from tamis.storage import Answers, Store, TimeIds

_SMALL_TEXTS = 16
"""A call with more texts goes its own way, so that no other waits for its end."""

_GROUP_CALLS = 64
"""Small calls of one turn are answered together, but not so many that the first wait for the last."""


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer to one text, and whether it was known before."""

    prediction: Prediction
    from_cache: bool


@dataclass(slots=True, eq=False)
class _Call:
    """The texts of one caller on their way."""

    texts: Sequence[str]
    caller: str
    skip_cache: bool
    ids: list[bytes]
    forms: list[str]
    future: asyncio.Future[list[Classified]]
    keys: list[bytes] = field(default_factory=list)
    answers: list[Classified | None] = field(default_factory=list)
    awaited: list[tuple[int, _Source]] = field(default_factory=list)
    """Places of texts that are being classified, and where their answers will be."""

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Source:
    """One text in a job of the batcher."""

    job: asyncio.Future[list[Outcome]]
    place: int


def no_observation(seconds: float) -> None:
    """Observe nothing."""


@final
class Classification:
    """Classifies the texts of many calls at once."""

    def __init__(
        self,
        classifier: Classifier,
        store: Store,
        clock: Clock,
        *,
        batcher: Batcher,
        cache: AnswerCache,
        observe_commit: Callable[[float], None] = no_observation,
    ):
        self._store, self._batcher, self._cache = store, batcher, cache
        self._observe_commit = observe_commit
        self._model, self._form = classifier.identity, classifier.form
        self._ids = TimeIds(clock)
        self._arrived: list[_Call] = []
        self._computing: dict[bytes, _Source] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def this_hour(self) -> datetime:
        """Return the UTC hour in which a call is logged now, also after the clock stepped back."""
        return self._ids.this_hour()

    def classify(
        self, texts: Sequence[str], *, caller: str, skip_cache: bool = False
    ) -> asyncio.Future[list[Classified]]:
        """Return the future answers to `texts`; when it is done, they are in the log.

        Fails with OverloadedError where too many wait, and with whatever the model raises on one
        of the texts. A caller that leaves cancels the future and disturbs nobody.
        """
        loop = asyncio.get_running_loop()
        next_id = self._ids.next
        ids = [next_id() for _ in texts]
        forms = [self._form(text) for text in texts]
        call = _Call(texts, caller, skip_cache, ids, forms, loop.create_future())
        if not self._arrived:
            loop.call_soon(self._turn)
        self._arrived.append(call)
        return call.future

    async def finish(self) -> None:
        """Answer what has arrived."""
        self._turn()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _turn(self) -> None:
        calls, self._arrived = self._arrived, []
        small = [call for call in calls if len(call.texts) <= _SMALL_TEXTS]
        for start in range(0, len(small), _GROUP_CALLS):
            group = small[start : start + _GROUP_CALLS]
            self._start(group, self._serve(group))
        for call in calls:
            if len(call.texts) > _SMALL_TEXTS:
                self._start([call], self._serve([call]))

    def _start(self, calls: Sequence[_Call], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(calls, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, calls: Sequence[_Call], work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as unexpected:  # noqa: BLE001 - the batch worker: nobody may wait for ever
            for call in calls:
                call.fail(unexpected)

    async def _serve(self, calls: Sequence[_Call]) -> None:
        await self._look_up(calls)
        known = [call for call in calls if None not in call.answers]
        if len(known) == len(calls):
            await self._log(known, {})
            return
        if known:
            self._start(known, self._log(known, {}))
        unknown = [call for call in calls if None in call.answers]
        computed = await self._compute(unknown)
        await self._log([call for call in unknown if not call.future.done()], computed)

    async def _look_up(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            call.keys = self._cache.keys(call.forms)
        asked = dict.fromkeys(key for call in calls if not call.skip_cache for key in call.keys)
        known = await self._cache.look_up([*asked]) if asked else {}
        found = {key: Classified(prediction, from_cache=True) for key, prediction in known.items()}
        for call in calls:
            call.answers = [None] * len(call.keys) if call.skip_cache else [*map(found.get, call.keys)]

    async def _compute(self, calls: Sequence[_Call]) -> Answers:
        """Fill in the answers that are not known; return those that were new."""
        for call in calls:
            try:
                self._ask_model(call)
            except OverloadedError as refused:
                call.fail(refused)
        computed: dict[bytes, Prediction] = {}
        for call in calls:
            for place, source in call.awaited:
                outcome = (await source.job)[source.place]
                if isinstance(outcome, Exception):
                    call.fail(outcome)
                    break
                call.answers[place] = Classified(outcome, from_cache=False)
                computed[call.keys[place]] = outcome
        self._forget(key for call in calls for key in call.keys)
        for key, prediction in computed.items():
            self._cache.remember(key, prediction)
        return {key: prediction.scores for key, prediction in computed.items()}

    def _ask_model(self, call: _Call) -> None:
        """Have each unknown text classified, unless it is being classified for somebody already."""
        missing = {
            key: form
            for key, form, answer in zip(call.keys, call.forms, call.answers, strict=True)
            if answer is None and key not in self._computing
        }
        if missing:
            job = self._batcher.submit([*missing.values()])
            self._computing |= {key: _Source(job, place) for place, key in enumerate(missing)}
        call.awaited = [
            (place, self._computing[key])
            for place, (key, answer) in enumerate(zip(call.keys, call.answers, strict=True))
            if answer is None
        ]

    def _forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            source = self._computing.get(key)
            if source is not None and source.job.done():
                del self._computing[key]

    async def _log(self, calls: Sequence[_Call], computed: Answers) -> None:
        """Commit a row for every text, then answer."""
        rows = [row for call in calls for row in self._rows(call)]
        began = perf_counter()
        await self._store.append(rows, computed)
        self._observe_commit(perf_counter() - began)
        for call in calls:
            if not call.future.done():
                call.future.set_result([answer for answer in call.answers if answer is not None])

    def _rows(self, call: _Call) -> list[CallRecord]:
        return [
            CallRecord(
                id, call.caller, text, answer.prediction.label, answer.prediction.score, self._model,
                answer.from_cache,
            )
            for id, text, answer in zip(call.ids, call.texts, call.answers, strict=True)
            if answer is not None
        ]  # fmt: skip
