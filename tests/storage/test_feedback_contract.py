"""What every feedback log must do; `conftest.STORES` lists the implementations."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from msgspec import structs

from tamis.storage import FeedbackRecord, LabelPairCount, LogQuery, TimeIds, called_at, pages
from tests.support.store_samples import HOSTILE_TEXTS, MODEL, digest


def feedback(ids: TimeIds, subject: bytes | None = None, **changes: object) -> FeedbackRecord:
    id = ids.next()
    record = FeedbackRecord(
        id=id,
        caller="alice",
        subject=id if subject is None else subject,
        text="WIN a FREE phone",
        label="spam",
        predicted="ham",
        model=MODEL,
        model_name="spam",
        model_version="3",
        comment="",
        revision=id,
    )
    return structs.replace(record, **changes)


async def everything(store, query: LogQuery | None = None, limit: int = 100) -> list[FeedbackRecord]:
    return [row async for page in pages(store.feedback, query or LogQuery(), limit=limit) for row in page]


def test_feedback_comes_back_exactly_whatever_its_text(check):
    async def body(store, ids):
        written = [feedback(ids, text=text, comment=text[:100]) for text in HOSTILE_TEXTS]
        written.append(feedback(ids, digest(1), predicted=None, model=None, model_version=None))
        for one in written:
            assert await store.feedback.put(one) == one
        assert await everything(store) == written
        assert [one.prediction_id for one in written[-2:]] == [written[-2].id, None]

    check(body)


def test_feedback_twice_is_one_row(check):
    async def body(store, ids):
        one = feedback(ids)
        assert await store.feedback.put(one) == await store.feedback.put(one) == one
        assert await everything(store) == [one]

    check(body)


def test_later_feedback_replaces_the_label_and_keeps_the_id(check, clock):
    async def body(store, ids):
        first = feedback(ids, digest(7))
        await store.feedback.put(first)
        clock.advance(7_200)
        later = feedback(ids, digest(7), label="ham", comment="sorry", predicted="other")
        stored = await store.feedback.put(later)
        assert stored == structs.replace(first, label="ham", comment="sorry", revision=later.revision)
        assert await store.feedback.put(first) == stored, "an earlier report changes nothing"
        assert await everything(store) == [stored]
        assert await store.feedback.find(first.id) == stored
        assert called_at(stored.id) < called_at(stored.revision)

    check(body)


def test_feedback_at_the_same_moment_is_one_row(check):
    async def body(store, ids):
        many = [feedback(ids, digest(1), label=label) for label in ("a", "b", "c")]
        await asyncio.gather(*(store.feedback.put(one) for one in many))
        [row] = await everything(store)
        assert row.label in ("a", "b", "c")

    check(body)


def test_feedback_of_two_callers_on_one_subject_is_two_rows(check):
    async def body(store, ids):
        mine, others = feedback(ids, digest(1)), feedback(ids, digest(1), caller="bob", label="ham")
        await store.feedback.put(mine)
        await store.feedback.put(others)
        assert await everything(store) == [mine, others]
        assert await everything(store, LogQuery(caller="bob")) == [others]
        assert await store.feedback.find(others.id, caller="alice") is None
        assert await store.feedback.find(others.id, caller="bob") == others

    check(body)


def test_feedback_is_filtered_and_paged_like_calls(check, clock):
    async def body(store, ids):
        early = [feedback(ids, text=f"text {number}") for number in range(5)]
        clock.advance(3_600)
        late = [feedback(ids, label="ham", model_version="4") for _ in range(5)]
        for one in (*late, *early):
            await store.feedback.put(one)
        middle = called_at(late[0].id)
        assert await everything(store, limit=3) == [*early, *late]
        assert await everything(store, LogQuery(newest_first=True), limit=3) == [*late[::-1], *early[::-1]]
        assert await everything(store, LogQuery(label="ham", caller="alice"), limit=2) == late
        assert await everything(store, LogQuery(model_version="3")) == early
        assert await everything(store, LogQuery(contains="TEXT 3")) == early[3:4]
        assert await everything(store, LogQuery(since=middle)) == late
        assert await everything(store, LogQuery(until=middle)) == early

    check(body)


def test_label_pairs_are_counted_by_model(check, clock):
    async def body(store, ids):
        for label, version, count in (("spam", "3", 3), ("ham", "3", 2), ("ham", "4", 1)):
            for _ in range(count):
                await store.feedback.put(feedback(ids, label=label, model_version=version))
        clock.advance(3_600)
        await store.feedback.put(
            feedback(ids, digest(1), predicted=None, model_name=None, model_version=None)
        )
        await store.feedback.put(feedback(ids))
        assert await store.feedback.pair_counts(LogQuery()) == [
            LabelPairCount(None, None, None, "spam", 1),
            LabelPairCount("spam", "3", "ham", "ham", 2),
            LabelPairCount("spam", "3", "ham", "spam", 4),
            LabelPairCount("spam", "4", "ham", "ham", 1),
        ]
        assert await store.feedback.pair_counts(LogQuery(model_version="4", caller="alice")) == [
            LabelPairCount("spam", "4", "ham", "ham", 1)
        ]

    check(body)


def test_feedback_of_a_deleted_caller_can_be_given_again(check):
    async def body(store, ids):
        mine, others = feedback(ids, digest(1)), feedback(ids, digest(1), caller="bob")
        await store.feedback.put(mine)
        await store.feedback.put(others)
        assert await store.feedback.delete_caller("alice") == 1
        assert await everything(store) == [others]
        again = feedback(ids, digest(1), label="ham")
        assert await store.feedback.put(again) == again
        assert await everything(store) == [others, again]

    check(body)


def test_old_feedback_is_deleted_and_nothing_else(check, clock):
    async def body(store, ids):
        for _ in range(3):
            await store.feedback.put(feedback(ids))
        clock.advance(60)
        kept = feedback(ids)
        await store.feedback.put(kept)
        assert await store.feedback.delete_before(called_at(kept.id)) == 3
        assert await everything(store) == [kept]
        assert await store.feedback.delete_before(datetime(1990, 1, 1, tzinfo=UTC)) == 0

    check(body)
