"""The use case: texts in, answers out, in the same order, each text logged before its answer leaves.

The one place where the model meets the log and the cache. What arrives within one turn of the event
loop is looked up together, classified together and logged together. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import NamedTuple, final

from tamis.clock import Clock
from tamis.inference.batcher import Batcher, Outcome
from tamis.inference.classifier import Classifier
from tamis.records import CallRecord, Prediction
from tamis.service.answer_cache import AnswerCache
from tamis.storage import Scores, Store, TimeIds

_SMALL_TEXTS = 16
"""A call with more texts goes its own way, so that no other waits for its end."""

_GROUP_CALLS = 64
"""Small calls of one turn are answered together, but not so many that the first wait for the last."""

_COMMIT_ROWS = 256

Known = Mapping[bytes, Prediction]
"""Answers by cache key."""


class Classified(NamedTuple):
    """The answer to one text, and whether it was known before."""

    prediction: Prediction
    from_cache: bool


@dataclass(slots=True, eq=False)
class _Call:
    """The texts of one caller on their way."""

    texts: Sequence[str]
    caller: str
    skip_cache: bool
    ids: Sequence[bytes]
    future: asyncio.Future[list[Classified]]
    keys: Sequence[bytes] = ()

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


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
        self._computing: dict[bytes, tuple[asyncio.Future[list[Outcome]], int]] = {}
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
        call = _Call(texts, caller, skip_cache, self._ids.take(len(texts)), loop.create_future())
        if not self._arrived:
            self._start(self._arrived, self._turn(self._arrived))
        self._arrived.append(call)
        return call.future

    async def finish(self) -> None:
        """Answer what has arrived."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _turn(self, calls: list[_Call]) -> None:
        """Answer all that has arrived: the first group in this very task, further ones in their own."""
        self._arrived = []
        calls[:], *others = _groups(calls)
        for group in others:
            self._start(group, self._serve(group))
        await self._serve(calls)

    def _start(self, calls: Sequence[_Call], answering: Coroutine[None, None, None]) -> None:
        """Have `calls` answered in a task of their own; they fail if it fails."""
        task = asyncio.create_task(answering)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            for call in calls:
                if task.cancelled():
                    call.future.cancel()
                elif (error := task.exception()) is not None:
                    call.fail(error)

        task.add_done_callback(done)

    async def _serve(self, calls: Sequence[_Call]) -> None:
        forms = self._forms(calls)
        known: Known = {} if calls[0].skip_cache else await self._cache.look_up(forms)
        if len(known) == len(forms):
            await self._answer(calls, known, {})
            return
        if known:  # who needs no model does not wait for it
            incomplete = [call for call in calls if not all(key in known for key in call.keys)]
            if len(incomplete) < len(calls):
                complete = [call for call in calls if call not in incomplete]
                self._start(complete, self._answer(complete, known, {}))
                calls = incomplete
            forms = {key: form for key, form in forms.items() if key not in known}
        await self._answer(calls, known, await self._compute(forms))

    def _forms(self, calls: Sequence[_Call]) -> dict[bytes, str]:
        """Give each text its key; return every different text once, in the model's form."""
        forms: dict[bytes, str] = {}
        form_of, key_of = self._form, self._cache.keys().key
        for call in calls:
            own_forms = [form_of(text) for text in call.texts]
            call.keys = [key_of(form) for form in own_forms]
            forms.update(zip(call.keys, own_forms, strict=True))
        return forms

    async def _compute(self, forms: Mapping[bytes, str]) -> Mapping[bytes, Outcome]:
        """Have texts classified, except those that are being classified for somebody already."""
        shared = {key: self._computing[key] for key in forms if key in self._computing}
        own = {key: form for key, form in forms.items() if key not in shared} if shared else forms
        outcomes = await self._ask_model(own) if own else {}
        for key, (job, place) in shared.items():
            outcomes[key] = (await job)[place]
        return outcomes

    async def _ask_model(self, forms: Mapping[bytes, str]) -> dict[bytes, Outcome]:
        job = self._batcher.submit([*forms.values()])
        self._computing.update((key, (job, place)) for place, key in enumerate(forms))
        try:
            outcomes = dict(zip(forms, await job, strict=True))
        finally:
            for key in forms:
                del self._computing[key]
        self._cache.remember(outcomes)
        return outcomes

    async def _answer(self, calls: Sequence[_Call], known: Known, fresh: Mapping[bytes, Outcome]) -> None:
        """Commit a row for every text, answer, and then have the store remember what is new."""
        failures = {key: outcome for key, outcome in fresh.items() if isinstance(outcome, Exception)}
        for call in calls if failures else ():
            for failed in [failures[key] for key in call.keys if key in failures][:1]:
                call.fail(failed)
        calls = [call for call in calls if not call.future.done()]
        new = {key: outcome for key, outcome in fresh.items() if not isinstance(outcome, Exception)}
        answers = [_classified(call.keys, known, new) for call in calls]
        await self._append(
            [
                CallRecord(id, call.caller, text, found.label, found.score, self._model, from_cache)
                for call, answer in zip(calls, answers, strict=True)
                for id, text, (found, from_cache) in zip(call.ids, call.texts, answer, strict=True)
            ]
        )
        for call, answer in zip(calls, answers, strict=True):
            if not call.future.done():
                call.future.set_result(answer)
        # nobody waits for this: whoever asks next asks the memory of this process, and others a moment later
        await self._remember([(key, prediction.scores) for key, prediction in new.items()])

    async def _append(self, rows: Sequence[CallRecord]) -> None:
        """Log rows; a long list goes in parts, for others to come between."""
        for start in range(0, len(rows), _COMMIT_ROWS):
            began = perf_counter()
            await self._store.append(rows[start : start + _COMMIT_ROWS])
            self._observe_commit(perf_counter() - began)

    async def _remember(self, answers: Sequence[tuple[bytes, Scores]]) -> None:
        for start in range(0, len(answers), _COMMIT_ROWS):
            await self._store.append((), dict(answers[start : start + _COMMIT_ROWS]))


def _groups(calls: Sequence[_Call]) -> Iterator[list[_Call]]:
    """Divide calls into those that are looked up, computed and logged together."""
    for skip_cache in (False, True):
        alike = [call for call in calls if call.skip_cache is skip_cache]
        small = [call for call in alike if len(call.texts) <= _SMALL_TEXTS]
        for start in range(0, len(small), _GROUP_CALLS):
            yield small[start : start + _GROUP_CALLS]
        yield from ([call] for call in alike if len(call.texts) > _SMALL_TEXTS)


def _classified(keys: Iterable[bytes], known: Known, new: Known) -> list[Classified]:
    return [Classified(known[key], True) if key in known else Classified(new[key], False) for key in keys]
