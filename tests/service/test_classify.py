"""What is computed, what is remembered, what is logged, and when an answer leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.clock import Clock, SystemClock
from tamis.errors import OverloadedError, StoreError
from tamis.events import Events
from tamis.inference.batcher import Batcher
from tamis.inference.classifier import Classifier
from tamis.inference.served_model import ServedModel
from tamis.models.scorer import Scorer
from tamis.service.classify import ClassifyService
from tamis.service.micro_batch import Classified
from tamis.service.prediction_cache import LayeredPredictionCache
from tamis.settings import Settings
from tamis.storage import (
    Answers,
    CallLog,
    CallRecord,
    HourCount,
    LogQuery,
    MemorySpool,
    Page,
    PredictionCache,
    ResilientStore,
    Scores,
    Store,
    StoreHealth,
)
from tamis.storage.memory import MemoryStore
from tamis.storage.sqlite import SqliteStore
from tests.support.fakes import ManualClock
from tests.support.scorers import BAD, HeldScorer, WatchedScorer, classifier_with, score_of
from tests.support.serving import client_of, make_app
from tests.support.store_samples import everything


class RecordingLog(CallLog):
    """Remembers what was appended together, and can be held up."""

    def __init__(self, inner: CallLog) -> None:
        self.inner = inner
        self.appends: list[Sequence[CallRecord]] = []
        self.may_append = asyncio.Event()
        self.may_append.set()

    async def append(self, calls: Sequence[CallRecord]) -> None:
        await self.may_append.wait()
        self.appends.append(calls)
        await self.inner.append(calls)

    async def read(self, query: LogQuery, *, after: str | None = None, limit: int = 500) -> Page[CallRecord]:
        return await self.inner.read(query, after=after, limit=limit)

    async def find(self, id: bytes, *, caller: str | None = None) -> CallRecord | None:
        return await self.inner.find(id, caller=caller)

    async def summary(self, query: LogQuery) -> list[HourCount]:
        return await self.inner.summary(query)

    async def delete_before(self, moment: datetime) -> int:
        return await self.inner.delete_before(moment)

    async def delete_caller(self, caller: str) -> int:
        return await self.inner.delete_caller(caller)


class CountingCache(PredictionCache):
    """Counts the keys that are looked up."""

    def __init__(self, inner: PredictionCache) -> None:
        self.inner = inner
        self.looked_up = 0

    @property
    def secret(self) -> bytes:
        return self.inner.secret

    async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        self.looked_up += len(keys)
        return await self.inner.get_many(keys)

    async def put_many(self, answers: Answers) -> None:
        await self.inner.put_many(answers)


class RecordingStore(Store):
    """A store in memory with a recording log and a counting cache."""

    log: RecordingLog
    cache: CountingCache

    def __init__(self, clock: Clock) -> None:
        self._inner = MemoryStore(clock)
        self.log = RecordingLog(self._inner.log)
        self.cache = CountingCache(self._inner.cache)
        self.feedback = self._inner.feedback

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def migrate(self) -> list[str]:
        return await self._inner.migrate()

    async def check(self) -> StoreHealth:
        return await self._inner.check()


class _OfOneModel:
    """The use case with its model, which every test here takes as given."""

    def __init__(self, service: ClassifyService, model: ServedModel):
        self.classify = partial(service.classify, model)


@asynccontextmanager
async def _classifying(
    scorer: Scorer | Classifier,
    store: Store | None = None,
    *,
    clock: Clock | None = None,
    memory_rows: int = 1_000,
    max_queue_seconds: float = 1e9,
) -> AsyncIterator[_OfOneModel]:
    """Open the store and give the use case on it; all is answered and closed in the end."""
    clock = clock or SystemClock()
    store = store or MemoryStore(clock)
    classifier = classifier_with(scorer) if isinstance(scorer, Scorer) else scorer
    batcher = Batcher(classifier, clock, max_queue_seconds=max_queue_seconds, events=Events())
    cache = LayeredPredictionCache(store.cache, clock, memory_rows=memory_rows, events=Events())
    await store.open()
    classification = ClassifyService(store, clock, cache=cache, events=Events())
    yield _OfOneModel(classification, ServedModel(classifier, batcher))
    await classification.finish()
    await batcher.close()
    await store.close()


def _spam(answers: Sequence[Classified]) -> list[float]:
    return [answer.prediction.scores["spam"] for answer in answers]


def _from_cache(answers: Sequence[Classified]) -> list[bool]:
    return [answer.from_cache for answer in answers]


async def test_of_three_texts_with_two_known_only_one_is_computed() -> None:
    scorer = WatchedScorer()
    async with _classifying(scorer) as classification:
        await classification.classify(["one", "two"], caller="c")
        answers = await classification.classify(["one", "two", "three"], caller="c")
        assert _from_cache(answers) == [True, True, False]
        assert _spam(answers) == [score_of("one"), score_of("two"), score_of("three")]
        assert scorer.texts == ["one", "two", "three"]


async def test_every_text_is_logged_once_with_its_caller_and_in_order() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        await classification.classify(["  one  ", "two"], caller="anna")
        await classification.classify(["one", "one"], caller="ben")
        rows = await everything(store)
        assert [(row.caller, row.text, row.from_cache) for row in rows] == [
            ("anna", "  one  ", False),
            ("anna", "two", False),
            ("ben", "one", False),
            ("ben", "one", False),
        ]
        assert {row.model for row in rows} == {"f" * 64}
        assert all(row.label == "ham" and row.score == 1 - score_of(row.text.strip()) for row in rows)


async def test_an_answer_leaves_only_when_its_rows_are_committed() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        for texts in (["new"], ["new"]):  # computed, then known
            store.log.may_append.clear()
            answer = classification.classify(texts, caller="c")
            for _ in range(20):
                await asyncio.sleep(0)
            assert not answer.done()
            store.log.may_append.set()
            await answer


async def test_classify_texts_of_one_turn_are_scored_together() -> None:
    scorer, store = WatchedScorer(), RecordingStore(SystemClock())
    async with _classifying(scorer, store) as classification:
        calls = [classification.classify([f"text {i}"], caller=f"caller {i}") for i in range(20)]
        await asyncio.gather(*calls)
        assert [len(batch) for batch in scorer.batches] == [20]
        assert [len(calls) for calls in store.log.appends] == [20]


async def test_classify_lists_of_one_turn_are_committed_together() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        sizes = [(1, False), (64, False), (63, False), (9, True), (200, False), (2, False), (3, True)]
        await asyncio.gather(
            *(
                classification.classify([f"{number}"] * size, caller=f"{number}", skip_cache=skips)
                for number, (size, skips) in enumerate(sizes)
            )
        )
        assert [[*Counter(int(call.caller) for call in calls)] for calls in store.log.appends] == [
            [0, 1, 2],
            [3],
            [4],
            [5],
            [6],
        ]


async def test_who_comes_alone_is_not_kept_waiting_for_company() -> None:
    async with _classifying(WatchedScorer()) as classification:

        def ask(text: str) -> asyncio.Future[list[Classified]]:
            return classification.classify([text], caller="c")

        assert not (first := ask("may have company")).done()
        await first
        assert ask("alone").done()
        others = [ask("company"), ask("for it")]
        assert not any(other.done() for other in others)
        await asyncio.gather(*others)
        assert not (next_one := ask("with company the last time")).done()
        await next_one
        assert ask("alone again").done()


async def test_classify_concurrent_equal_texts_are_computed_once() -> None:
    scorer = HeldScorer()
    async with _classifying(scorer) as classification:
        early = [classification.classify(["same", " same"], caller="c") for _ in range(5)]
        await asyncio.to_thread(scorer.began.acquire)
        late = [classification.classify(["same"], caller="c") for _ in range(5)]
        with_another = classification.classify(["other", "same"], caller="c")
        await asyncio.sleep(0)
        scorer.release(2)
        answers = await asyncio.gather(*early, *late, with_another)
        assert scorer.batches == [["same"], ["other"]]
        assert {answer[-1].prediction.scores["spam"] for answer in answers} == {score_of("same")}


async def test_classify_skip_cache_computes_and_stores_the_answer() -> None:
    scorer = WatchedScorer()
    async with _classifying(scorer) as classification:
        for _ in range(2):
            assert _from_cache(await classification.classify(["x"], caller="c", skip_cache=True)) == [False]
        assert scorer.texts == ["x", "x"]
        assert _from_cache(await classification.classify(["x"], caller="c")) == [True]


async def test_classify_skip_cache_beside_cached_callers_is_fresh() -> None:
    async with _classifying(WatchedScorer()) as classification:
        await classification.classify(["x"], caller="c")
        known = classification.classify(["x"], caller="c")
        fresh = classification.classify(["x"], caller="c", skip_cache=True)
        assert (_from_cache(await known), _from_cache(await fresh)) == ([True], [False])


async def test_a_known_text_does_not_wait_for_the_model() -> None:
    clock = ManualClock()
    scorer = HeldScorer(clock)
    async with _classifying(scorer, clock=clock) as classification:
        scorer.release()
        await classification.classify(["known"], caller="c")
        new = classification.classify(["new"], caller="c")
        known = classification.classify(["known"], caller="c")
        assert _from_cache(await known) == [True]
        assert not new.done()
        scorer.release()
        await new


async def test_classify_answers_after_a_restart_are_digit_for_digit(
    tmp_path: Path,
) -> None:
    labels = ("zebra", "ant")  # not in the order of the alphabet, in which a store may give them back
    texts = [f"text {number}" for number in range(200)]

    async def ask(scorer: WatchedScorer) -> list[Classified]:
        store = SqliteStore(tmp_path / "tamis.db", SystemClock())
        async with _classifying(classifier_with(scorer, labels=labels), store) as classification:
            answers: list[Classified] = await classification.classify(texts, caller="c")
            return answers

    fresh, cached = await ask(WatchedScorer()), await ask(silent := WatchedScorer())
    assert silent.batches == []
    assert all(_from_cache(cached)) and not any(_from_cache(fresh))
    assert [answer.prediction for answer in cached] == [answer.prediction for answer in fresh]
    assert {tuple(answer.prediction.scores) for answer in cached} == {labels}


async def test_a_retrained_model_never_gives_the_old_ones_answers() -> None:
    store = MemoryStore(SystemClock())
    async with _classifying(classifier_with(WatchedScorer(), identity="old"), store) as classification:
        await classification.classify(["x"], caller="c")
    retrained = WatchedScorer()
    async with _classifying(classifier_with(retrained, identity="new"), store) as classification:
        assert _from_cache(await classification.classify(["x"], caller="c")) == [False]
    assert retrained.texts == ["x"]


async def test_classify_stored_scores_with_other_labels_are_ignored() -> None:
    store = MemoryStore(SystemClock())
    async with _classifying(classifier_with(WatchedScorer(), labels=("a", "b")), store) as classification:
        await classification.classify(["x"], caller="c")
    async with _classifying(classifier_with(WatchedScorer(), labels=("a", "c")), store) as classification:
        assert _from_cache(await classification.classify(["x"], caller="c")) == [False]


async def test_classify_memory_keeps_the_most_recent_answers() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store, memory_rows=2) as classification:
        for text in ["a", "b", "a", "c"]:
            await classification.classify([text], caller="c")
        store.cache.looked_up = 0
        await classification.classify(["a", "c"], caller="c")
        assert store.cache.looked_up == 0
        assert _from_cache(await classification.classify(["b"], caller="c")) == [True]
        assert store.cache.looked_up == 1


async def test_without_room_in_memory_the_store_answers() -> None:
    async with _classifying(WatchedScorer(), memory_rows=0) as classification:
        await classification.classify(["a"], caller="c")
        assert _from_cache(await classification.classify(["a"], caller="c")) == [True]


async def test_memory_asks_the_store_again_after_a_minute() -> None:
    clock = ManualClock()
    store = RecordingStore(clock)
    async with _classifying(WatchedScorer(), store, clock=clock) as classification:
        await classification.classify(["a"], caller="c")
        store.cache.looked_up = 0
        clock.advance(59)
        await classification.classify(["a"], caller="c")
        assert store.cache.looked_up == 0
        clock.advance(2)
        await classification.classify(["a"], caller="c")
        assert store.cache.looked_up == 1


async def test_classify_failing_text_fails_and_logs_its_own_call_only() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        good = classification.classify(["good"], caller="c")
        mixed = classification.classify(["fine", BAD], caller="c")
        assert _spam(await good) == [score_of("good")]
        with pytest.raises(ValueError, match="the model fails"):
            await mixed
        assert [row.text for row in await everything(store)] == ["good"]


async def test_a_caller_who_leaves_disturbs_nobody() -> None:
    scorer = HeldScorer()
    async with _classifying(scorer) as classification:
        leaving, staying = (classification.classify(["same"], caller="c") for _ in range(2))
        await asyncio.to_thread(scorer.began.acquire)
        leaving.cancel()
        scorer.release()
        assert _spam(await staying) == [score_of("same")]


async def test_classify_caller_gone_during_the_commit_is_logged() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        store.log.may_append.clear()
        leaving, staying = (classification.classify([text], caller="c") for text in ("a", "b"))
        for _ in range(20):
            await asyncio.sleep(0)
        leaving.cancel()
        store.log.may_append.set()
        assert _spam(await staying) == [score_of("b")]
        assert [row.text for row in await everything(store)] == ["a", "b"]


async def test_classify_late_text_is_refused_and_cached_one_answered() -> None:
    clock, scorer = ManualClock(), HeldScorer()
    async with _classifying(scorer, clock=clock, max_queue_seconds=0.5) as classification:
        slow = classification.classify(["known"], caller="c")
        await asyncio.to_thread(scorer.began.acquire)
        clock.advance(1)
        scorer.release()
        await slow
        waiting = classification.classify(["waits"], caller="c")
        await asyncio.to_thread(scorer.began.acquire)
        with pytest.raises(OverloadedError):
            await classification.classify(["late"], caller="c")
        assert _from_cache(await classification.classify(["known"], caller="c")) == [True]
        scorer.release()
        await waiting
        scorer.release()
        await classification.classify(["late"], caller="c")


async def test_predictions_go_on_without_a_store() -> None:
    clock = SystemClock()
    inner = SqliteStore(Path("/nonexistent/tamis.db"), clock)
    store = ResilientStore(inner, MemorySpool(max_rows=3), clock, may_start_without=True)
    async with _classifying(WatchedScorer(), store) as classification:
        answers = [await classification.classify([f"{i}"], caller="c") for i in range(5)]
        assert len(answers) == 5
        counters = store.counters
        assert (counters.accepted, counters.written, counters.spooled, counters.dropped) == (5, 0, 3, 2)
        assert _from_cache(await classification.classify(["1"], caller="c")) == [True]


async def test_whatever_a_store_raises_reaches_the_callers() -> None:
    class BrokenCache(CountingCache):
        async def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
            raise StoreError("broken")

    store = RecordingStore(SystemClock())
    store.cache = BrokenCache(store.cache)
    async with _classifying(WatchedScorer(), store) as classification:
        with pytest.raises(StoreError, match="broken"):
            await classification.classify(["x"], caller="c")


async def test_classify_long_list_is_committed_in_parts() -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store) as classification:
        texts = [f"{number}" for number in range(1_000)]
        assert _spam(await classification.classify(texts, caller="c")) == [score_of(text) for text in texts]
        assert max(len(calls) for calls in store.log.appends) <= 256
        assert [row.text for row in await everything(store)] == texts
        assert all(_from_cache(await classification.classify(texts, caller="c")))


_TEXTS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@given(turns=st.lists(st.lists(st.tuples(_TEXTS, st.booleans()), max_size=5), max_size=4))
@settings(max_examples=60, deadline=None)
async def test_whatever_is_asked_when_all_is_answered_and_logged_once(
    turns: list[list[tuple[list[str], bool]]],
) -> None:
    store = RecordingStore(SystemClock())
    async with _classifying(WatchedScorer(), store, memory_rows=3) as classification:
        for calls in turns:
            answers = await asyncio.gather(
                *(classification.classify(texts, caller="c", skip_cache=skip) for texts, skip in calls)
            )
            for (texts, skip), answer in zip(calls, answers, strict=True):
                assert _spam(answer) == [score_of(text) for text in texts]
                assert not (skip and any(_from_cache(answer)))
        asked = [text for calls in turns for texts, _ in calls for text in texts]
        assert sorted(row.text for row in await everything(store)) == sorted(asked)


async def test_overload_is_503_with_retry_after_when_asked_over_http() -> None:
    clock, scorer = ManualClock(), HeldScorer()
    for _ in range(64):
        scorer.release()  # for the examples of the documentation, which are made with the application
    app = make_app(Settings(max_queue_seconds=0.5), classifier_with(scorer), clock=clock)
    scorer.hold()
    async with client_of(app) as client:
        first = asyncio.create_task(client.post("/prediction", json={"text": "first"}))
        await asyncio.to_thread(scorer.began.acquire)
        clock.advance(3)
        scorer.release()
        await first
        waiting = asyncio.create_task(client.post("/prediction", json={"text": "waits"}))
        await asyncio.to_thread(scorer.began.acquire)
        refused = await client.post("/prediction", json={"text": "late"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "3"
        assert refused.json()["error"]["code"] == "overloaded"
        scorer.release()
        assert (await waiting).status_code == 200


async def test_classify_long_texts_leave_the_loop_to_others() -> None:
    marks = "a" + "\N{COMBINING GRAVE ACCENT}\N{COMBINING GRAVE ACCENT BELOW}" * 5_000
    turns = 0

    async with _classifying(WatchedScorer()) as classification:
        answers = classification.classify([f"{number} {marks}" for number in range(50)], caller="c")
        while not answers.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(await answers) == 50
    assert turns > 100  # on the loop all texts take one turn
