"""Who is classified together, who waits, who is refused, and that nobody suffers from another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.clock import SystemClock
from tamis.errors import OverloadedError
from tamis.events import BatchScored, Events
from tamis.inference.batcher import BATCH_CHARS, BATCH_TEXTS, Batcher
from tamis.types import Prediction
from tests.support.fakes import ManualClock
from tests.support.scorers import BAD, HeldScorer, WatchedScorer, classifier_with, score_of


def _batcher(scorer: WatchedScorer, *, max_queue_seconds: float = 1e9) -> Batcher:
    return Batcher(
        classifier_with(scorer), SystemClock(), max_queue_seconds=max_queue_seconds, events=Events()
    )


def _spam(outcomes: Sequence[Prediction | Exception]) -> list[float]:
    return [outcome.scores["spam"] for outcome in outcomes if isinstance(outcome, Prediction)]


async def test_batcher_texts_after_a_batch_form_the_next_batch() -> None:
    scorer = WatchedScorer()
    batcher = _batcher(scorer)
    jobs = [batcher.submit([f"{caller} a", f"{caller} b"]) for caller in range(5)]
    for caller, outcomes in enumerate(await asyncio.gather(*jobs)):
        assert _spam(outcomes) == [score_of(f"{caller} a"), score_of(f"{caller} b")]
    assert [len(batch) for batch in scorer.batches] == [2, 8]


async def test_a_lone_text_leaves_at_once() -> None:
    scorer = WatchedScorer()
    job = _batcher(scorer).submit(["alone"])
    assert job.done() and scorer.batches == [["alone"]]


async def test_what_arrives_while_the_model_is_busy_is_the_next_batch() -> None:
    scorer = HeldScorer()
    batcher = _batcher(scorer)
    first = batcher.submit(["first"])
    await asyncio.to_thread(scorer.began.acquire)
    others = [batcher.submit([f"later {number}"]) for number in range(3)]
    await asyncio.sleep(0)
    others.append(batcher.submit(["later still"]))
    assert batcher.waiting_texts == 5
    scorer.release(2)
    await asyncio.gather(first, *others)
    assert scorer.batches == [["first"], ["later 0", "later 1", "later 2", "later still"]]
    assert batcher.waiting_texts == 0
    await batcher.close()


async def test_the_loop_goes_on_while_a_heavy_model_works() -> None:
    scorer = HeldScorer()
    batcher = _batcher(scorer)
    job = batcher.submit(["slow"])
    await asyncio.to_thread(scorer.began.acquire)
    assert not job.done()  # and here we are, on the loop
    scorer.release()
    await job
    await batcher.close()


async def test_a_text_the_model_fails_on_fails_alone() -> None:
    batcher = _batcher(WatchedScorer())
    good, mixed = batcher.submit(["good", "too"]), batcher.submit(["fine", BAD, "fine again"])
    assert _spam(await good) == [score_of("good"), score_of("too")]
    fine, bad, again = await mixed
    assert isinstance(bad, ValueError)
    assert _spam([fine, again]) == [score_of("fine"), score_of("fine again")]


async def test_batcher_caller_gone_before_the_batch_is_skipped() -> None:
    scorer = WatchedScorer()
    batcher = _batcher(scorer)
    batcher.submit(["first"])
    leaving, staying = batcher.submit(["leaving"]), batcher.submit(["staying"])
    leaving.cancel()
    assert _spam(await staying) == [score_of("staying")]
    assert scorer.batches == [["first"], ["staying"]]
    assert batcher.waiting_texts == 0


async def test_a_caller_who_leaves_during_the_batch_disturbs_nobody() -> None:
    scorer = HeldScorer()
    batcher = _batcher(scorer)
    leaving, staying = batcher.submit(["leaving"]), batcher.submit(["staying"])
    await asyncio.to_thread(scorer.began.acquire)
    leaving.cancel()
    next_one = batcher.submit(["next"])
    scorer.release(2)
    assert _spam(await staying) == [score_of("staying")]
    assert _spam(await next_one) == [score_of("next")]
    assert batcher.waiting_texts == 0
    await batcher.close()


async def test_batcher_caller_gone_within_a_long_list_is_dropped() -> None:
    scorer = HeldScorer()
    batcher = _batcher(scorer)
    long = batcher.submit([f"{number}" for number in range(10 * BATCH_TEXTS)])
    await asyncio.to_thread(scorer.began.acquire)
    long.cancel()
    after = batcher.submit(["after"])
    scorer.release(2)
    await after
    assert len(scorer.texts) == BATCH_TEXTS + 1
    assert batcher.waiting_texts == 0
    await batcher.close()


async def test_a_long_list_lets_others_go_between_its_parts() -> None:
    scorer = WatchedScorer()
    batcher = _batcher(scorer)
    texts = [f"{number}" for number in range(5 * BATCH_TEXTS)]
    long = batcher.submit(texts)
    await asyncio.sleep(0)
    single = batcher.submit(["single"])
    await single
    assert not long.done()
    assert _spam(await long) == [score_of(text) for text in texts]
    assert max(len(batch) for batch in scorer.batches) <= BATCH_TEXTS


async def test_long_texts_make_small_batches() -> None:
    scorer = WatchedScorer()
    await _batcher(scorer).submit(["x" * (BATCH_CHARS // 2)] * 8 + ["y" * 3 * BATCH_CHARS])
    assert [len(batch) for batch in scorer.batches] == [2, 2, 2, 2, 1]


async def test_no_texts_have_no_outcomes() -> None:
    assert await _batcher(WatchedScorer()).submit([]) == []


class _Heavy(WatchedScorer):
    is_heavy = True


async def test_batcher_heavy_model_with_known_speed_runs_on_the_loop() -> None:
    clock = ManualClock()
    scorer = _Heavy(before=lambda texts: clock.advance(1e-5 * sum(map(len, texts))))
    batcher = Batcher(classifier_with(scorer), clock, max_queue_seconds=9, events=Events())
    measuring = batcher.submit(["unknown"])
    assert not measuring.done()
    await measuring
    assert batcher.submit(["brief"]).done()
    await asyncio.sleep(0)
    long = batcher.submit(["x" * 201])  # 2.01 ms
    assert not long.done()
    await long
    polite = batcher.submit(["brief"], others_wait=True)
    assert not polite.done()
    await polite
    assert batcher.submit(["x" * 199]).done()
    await asyncio.sleep(0)
    both = batcher.submit(["brief", *["x"] * BATCH_TEXTS])  # a second batch waits behind the first
    assert not both.done()
    await both
    await batcher.close()


class _Slow:
    """A light model that takes 10 ms a text on a clock of its own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.scorer = WatchedScorer(before=lambda texts: self.clock.advance(0.01 * len(texts)))
        self.batcher = Batcher(
            classifier_with(self.scorer), self.clock, max_queue_seconds=0.5, events=Events()
        )


async def test_what_would_be_begun_too_late_is_refused_at_once() -> None:
    slow = _Slow()
    await slow.batcher.submit(["measured"])
    await asyncio.sleep(0)
    waiting = [slow.batcher.submit([f"{number}"]) for number in range(52)]  # one goes at once
    with pytest.raises(OverloadedError, match="try again in 1 s") as refused:
        slow.batcher.submit(["late"])
    assert refused.value.retry_after_seconds == 1
    assert slow.batcher.waiting_seconds == pytest.approx(0.51)
    await asyncio.gather(*waiting)
    await slow.batcher.submit(["welcome again"])
    assert "late" not in slow.scorer.texts


async def test_batcher_slow_model_takes_a_text_when_idle() -> None:
    slow = _Slow()
    for number in range(3):
        await slow.batcher.submit([f"{number} {text}" for text in range(1_000)])
        await asyncio.sleep(0)
    assert len(slow.scorer.texts) == 3_000


async def test_nothing_is_refused_before_the_speed_is_known() -> None:
    slow = _Slow()
    jobs = [slow.batcher.submit(["x"] * 100) for _ in range(20)]
    await asyncio.gather(*jobs)


async def test_each_batch_is_reported() -> None:
    slow, events, reports = _Slow(), Events(), list[BatchScored]()
    events.subscribe(BatchScored, reports.append)
    batcher = Batcher(classifier_with(slow.scorer), slow.clock, max_queue_seconds=9, events=events)
    await batcher.submit(["x"] * (BATCH_TEXTS + 6))
    assert [report.texts for report in reports] == [BATCH_TEXTS, 6]
    assert [report.waiting_texts for report in reports] == [6, 0]
    assert reports[1].queue_seconds == pytest.approx(0.01 * BATCH_TEXTS)
    assert reports[1].score_seconds == pytest.approx(0.06)


@given(calls=st.lists(st.lists(st.sampled_from(["a", "b", "c", BAD]), max_size=150), max_size=6))
@settings(max_examples=100, deadline=None)
def test_everybody_gets_the_outcomes_of_their_own_texts_in_order(calls: list[list[str]]) -> None:
    async def ask() -> list[list[Prediction | Exception]]:
        batcher = _batcher(WatchedScorer())
        return await asyncio.gather(*(batcher.submit(texts) for texts in calls))

    for texts, outcomes in zip(calls, asyncio.run(ask()), strict=True):
        assert [isinstance(outcome, ValueError) for outcome in outcomes] == [BAD in text for text in texts]
        assert _spam(outcomes) == [score_of(text) for text in texts if BAD not in text]
