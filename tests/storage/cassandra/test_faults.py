"""What the store does with answers that no real node gives on cue."""

from __future__ import annotations

import struct
import time
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from tamis.clock import SystemClock
from tamis.errors import StoreError
from tamis.events import Events, StoreFailed
from tamis.storage import (
    CallRecord,
    ClusterOptions,
    LogQuery,
    MemorySpool,
    ResilientStore,
    Store,
    StoreOptions,
    TimeIds,
    make_store,
)
from tamis.storage.ids import as_uuid
from tests.support.fakes import ManualClock
from tests.support.store_samples import SCORES, call, calls, everything, key, run

pytest.importorskip("cassandra", reason="the extra tamis[cassandra] is not installed")

from tests.support.fake_cql import (
    OVERLOADED,
    READ_TIMEOUT,
    UNAVAILABLE,
    WRITE_TIMEOUT,
    Answer,
    FakeCluster,
    dropped,
    fake_cluster,
    half_a_frame,
    silence,
    unprepared,
)

pytestmark = pytest.mark.alone

INSERT_CALL = "INSERT INTO spam.calls"
READ_CALLS = "SELECT id, caller"
READ_ANSWER = "SELECT scores"
CHECK = "INSERT INTO spam.meta"
DEADLINE_SECONDS = 0.8
CACHE_DEADLINE_SECONDS = 0.2
OPTIONS = StoreOptions(
    cluster=ClusterOptions(
        deadline_seconds=DEADLINE_SECONDS, cache_deadline_seconds=CACHE_DEADLINE_SECONDS, connect_seconds=10
    )
)
LATE_SECONDS = 0.3  # two cores are shared: what would be an error is off by whole deadlines


def with_store(
    body: Callable[[FakeCluster, Store, TimeIds], Awaitable[None]], *, size: int = 2, resilient: bool = False
) -> None:
    async def test() -> None:
        clock = ManualClock()
        async with fake_cluster(size) as fake:
            store = make_store(fake.url, clock, OPTIONS)
            if resilient:
                store = ResilientStore(store, MemorySpool(), SystemClock(), retry_seconds=0.01)
            await store.open()
            try:
                await body(fake, store, TimeIds(clock))
            finally:
                await store.close()

    run(test)


def row(one: CallRecord) -> list[bytes | None]:
    texts = [value.encode() for value in (one.caller, one.text, one.label)]
    score, from_cache = struct.pack(">d", one.score), bytes([one.from_cache])
    return [as_uuid(one.id).bytes, *texts, score, one.model.encode(), from_cache, b"ham", None, None]


def test_a_call_is_one_insertion_when_nothing_fails():
    async def body(fake, store, ids):
        await store.log.append([call(ids)])
        await store.log.append([call(ids)])
        assert fake.count(INSERT_CALL) == 2
        assert fake.count("INSERT INTO spam.hours") == 2, "an hour is told once"

    with_store(body)


def test_calls_of_one_partition_share_a_batch():
    async def body(fake, store, ids):
        await store.log.append(calls(ids, 200))
        assert fake.count("BATCH") == 8
        assert fake.count(INSERT_CALL) == 0

    with_store(body)


def test_an_overload_is_not_made_worse_by_a_retry():
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, OVERLOADED)
        with pytest.raises(StoreError, match="the cluster is overloaded") as failed:
            await store.log.append([call(ids)])
        assert failed.value.fault == "overloaded"
        assert fake.count(INSERT_CALL) == 1

    with_store(body)


@pytest.mark.parametrize("answer", [UNAVAILABLE, WRITE_TIMEOUT, half_a_frame, dropped])
def test_a_write_that_fails_is_tried_once_on_the_next_host(answer: Answer):
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, answer)
        await store.log.append([call(ids)])
        assert fake.count(INSERT_CALL) == 2

    with_store(body)


@pytest.mark.parametrize(
    ("answer", "fault", "told"),
    [
        (UNAVAILABLE, "unavailable", "1 of the 2 needed"),
        (WRITE_TIMEOUT, "timeout", "too few replicas acknowledged"),
    ],
)
def test_a_write_that_fails_twice_is_given_up(answer: Answer, fault: str, told: str):
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, answer, times=5)
        with pytest.raises(StoreError, match=told) as failed:
            await store.log.append([call(ids)])
        assert failed.value.fault == fault
        assert fake.count(INSERT_CALL) == 2

    with_store(body, size=3)


def test_a_read_that_fails_twice_is_given_up():
    async def body(fake, store, ids):
        fake.cue(READ_ANSWER, READ_TIMEOUT, times=5)
        with pytest.raises(StoreError, match="too few replicas answered in time"):
            await store.cache.get_many([key(1)])
        assert fake.count(READ_ANSWER) == 2

    with_store(body, size=3)


def test_a_statement_that_a_node_has_forgotten_is_prepared_again():
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, unprepared)
        fake.cue("BATCH", unprepared_batch)
        await store.log.append([call(ids)])
        assert fake.count(INSERT_CALL) == 2

    def unprepared_batch(request):
        request.body = request.body[4:]  # type, number of statements, kind of the first
        return unprepared(request)

    with_store(body)


def test_a_node_that_stays_silent_costs_no_call():
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, silence)
        await store.log.append([call(ids)])
        assert fake.count(INSERT_CALL) == 2

    with_store(body)


def test_silence_of_all_ends_at_the_deadline():
    async def body(fake, store, ids):
        await store.log.append([call(ids)])
        fake.cue(INSERT_CALL, silence, times=9)
        started = time.monotonic()
        with pytest.raises(StoreError, match=r"timed out after 0\.8 s"):
            await store.log.append([call(ids)])
        assert time.monotonic() - started < DEADLINE_SECONDS + LATE_SECONDS

    with_store(body)


def test_a_look_up_that_takes_too_long_finds_nothing():
    async def body(fake, store, ids):
        fake.cue(READ_ANSWER, silence, times=9)
        started = time.monotonic()
        assert await store.cache.get_many([key(1), key(2)]) == [None, None]
        assert time.monotonic() - started < CACHE_DEADLINE_SECONDS + LATE_SECONDS

    with_store(body)


def test_answers_just_looked_up_are_written_without_asking_again():
    async def body(fake, store, ids):
        await store.cache.get_many([key(1)])
        await store.cache.put_many({key(1): SCORES})
        assert (fake.count(READ_ANSWER), fake.count("INSERT INTO spam.answers")) == (1, 1)

    with_store(body)


def test_connection_dropped_within_a_page_loses_no_row():
    async def body(fake, store, ids):
        written = calls(ids, 60)
        fake.pages = [[row(one) for one in written[start : start + 20]] for start in (0, 20, 40)]
        fake.cue("SELECT hour", hours_of(written))
        fake.drops_at_page = 1
        found = await everything(store, LogQuery(caller="10.0.0.1"), limit=1_000)
        assert fake.drops_at_page is None
        assert [structs.replace(one, decision=None) for one in found] == sorted(
            written * 8, key=lambda one: one.id
        ), "every shard gives these pages"

    with_store(body)


def hours_of(written: list[CallRecord]) -> Answer:
    from tamis.storage.ids import hour_ticks, moment
    from tests.support.fake_cql import RESULT, rows

    hour = round(moment(hour_ticks(written[0].id)).timestamp() * 1_000)
    return lambda request: request.frame(RESULT, rows(["hour"], [[struct.pack(">q", hour)]]))


def test_calls_without_replicas_wait_and_arrive_once():
    async def body(fake, store, ids):
        fake.cue(INSERT_CALL, UNAVAILABLE, times=2)
        fake.cue(CHECK, UNAVAILABLE, times=2)
        events, failures = Events(), list[StoreFailed]()
        events.subscribe(StoreFailed, failures.append)
        store.emit_to(events, since=store.counters)
        await store.log.append([call(ids)])
        assert StoreFailed("unavailable") in failures
        assert store.counters.spooled == 1
        assert "too few replicas are up" in store.fault
        await store.wait_healthy()
        numbers = store.counters
        assert (numbers.accepted, numbers.written, numbers.spooled, numbers.dropped) == (1, 1, 0, 0)

    with_store(body, size=3, resilient=True)


async def test_tables_of_another_version_are_told_with_what_to_do():
    async with fake_cluster() as fake:
        for version, told in (
            ("0", "run: tamis migrate --store cassandra://127"),
            ("99", "upgrade Tamis"),
        ):
            fake.meta["schema_version"] = version
            with pytest.raises(StoreError, match=told):
                await make_store(fake.url, ManualClock(), OPTIONS).open()


async def test_a_wrong_data_centre_is_told_with_those_there_are():
    async with fake_cluster() as fake:
        url = fake.url.replace("local_dc=fake", "local_dc=elsewhere")
        with pytest.raises(StoreError, match="data centre 'elsewhere' not found; set local_dc to fake"):
            await make_store(url, ManualClock(), OPTIONS).open()


async def test_a_cluster_that_cannot_be_reached_is_told_in_one_line():
    store = make_store("cassandra://127.0.0.99:1/spam?local_dc=x", ManualClock(), OPTIONS)
    with pytest.raises(StoreError, match="all hosts failed") as failed:
        await store.open()
    assert "\n" not in str(failed.value)
