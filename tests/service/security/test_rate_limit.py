"""The limit against a simple reference, over HTTP, and with the clock moved."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from math import ceil
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.responses import Refused
from tamis.service.security.client_identity import Caller
from tamis.service.security.rate_limit import RateLimiter
from tamis.service.security.rate_table import RateTable
from tamis.settings import Settings
from tests.support.fakes import ManualClock
from tests.support.processes import serving
from tests.support.serving import client_of, make_app

ANNE, BERT = Caller("anne", "anne"), Caller("bert", "bert")


@pytest.fixture(scope="module")
def module_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def module_table(tmp_path_factory: pytest.TempPathFactory, module_clock: ManualClock) -> Iterator[RateTable]:
    table = RateTable(tmp_path_factory.mktemp("rates") / "rates.tamis", module_clock)
    yield table
    table.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(tmp_path: Path, clock: ManualClock) -> Iterator[RateLimiter]:
    """Sixty texts a minute, ten at once."""
    limiter = RateLimiter(RateTable(tmp_path / "rates.tamis", clock), per_minute=60, burst=10)
    yield limiter
    limiter.close()


def _takes(limiter: RateLimiter, caller: Caller, texts: int = 1) -> bool:
    try:
        limiter.consume(caller, texts)
    except Refused as refused:
        assert refused.code == "rate_limited"
        return False
    return True


class _Bucket:
    """The reference: a bucket of whole nanoseconds' worth of texts that fills evenly."""

    def __init__(self, per_minute: int, burst: int):
        self.interval = ceil(60_000_000_000 / per_minute)
        self.full = self.level = burst * self.interval
        self.filled_at: int | None = None

    def take(self, now: int, texts: int) -> bool:
        passed = now - (self.filled_at if self.filled_at is not None else now)
        self.level, self.filled_at = min(self.full, self.level + passed), now
        if texts * self.interval > self.level:
            return False
        self.level -= texts * self.interval
        return True


@given(
    per_minute=st.sampled_from([1, 7, 60, 61, 6_000, 10**6]),
    burst=st.integers(1, 20),
    calls=st.lists(st.tuples(st.integers(0, 3 * 60_000), st.integers(1, 20)), max_size=40),
)
@settings(max_examples=300, deadline=None)
def test_the_limiter_decides_as_a_filling_bucket(
    module_table: RateTable,
    module_clock: ManualClock,
    per_minute: int,
    burst: int,
    calls: list[tuple[int, int]],
) -> None:
    limiter = RateLimiter(module_table, per_minute=per_minute, burst=burst)
    bucket = _Bucket(per_minute, burst)
    caller = Caller("x", f"newcomer {next(_numbers)}")
    for milliseconds, texts in calls:
        module_clock.advance(milliseconds / 1_000)
        if texts <= burst:
            now = round(module_clock.monotonic() * 1e9)
            assert _takes(limiter, caller, texts) == bucket.take(now, texts)


_numbers = count()


def test_a_burst_passes_at_once_and_then_the_even_rate(limiter: RateLimiter, clock: ManualClock) -> None:
    assert [_takes(limiter, ANNE) for _ in range(12)] == [True] * 10 + [False] * 2
    clock.advance(1)
    assert [_takes(limiter, ANNE) for _ in range(2)] == [True, False]
    clock.advance(3_600)
    assert [_takes(limiter, ANNE) for _ in range(12)] == [True] * 10 + [False] * 2, "a pause earns a burst"


def test_an_interval_that_is_no_whole_nanosecond_is_rounded_up(tmp_path: Path, clock: ManualClock) -> None:
    limiter = RateLimiter(RateTable(tmp_path / "rates.tamis", clock), per_minute=700_000_000, burst=1)
    assert _takes(limiter, ANNE)
    clock.advance(85e-9)
    assert not _takes(limiter, ANNE), "700 million a minute are one every 85.7 ns"
    clock.advance(1e-9)
    assert _takes(limiter, ANNE)
    limiter.close()


def test_callers_are_counted_apart(limiter: RateLimiter) -> None:
    assert _takes(limiter, ANNE, 10)
    assert _takes(limiter, BERT, 10)
    assert not _takes(limiter, ANNE)


def test_a_list_is_let_in_as_a_whole_or_not_at_all(limiter: RateLimiter) -> None:
    assert _takes(limiter, ANNE, 7)
    assert not _takes(limiter, ANNE, 4)
    assert _takes(limiter, ANNE, 3), "the list that was refused has cost nothing"


def test_a_refusal_says_when_to_come_back(limiter: RateLimiter, clock: ManualClock) -> None:
    limiter.consume(ANNE, 10)
    clock.advance(0.25)
    with pytest.raises(Refused) as refused:
        limiter.consume(ANNE, 3)
    headers = dict(refused.value.headers)
    assert headers[b"retry-after"] == b"3"
    assert headers[b"ratelimit"] == b'"texts";r=0;t=10'
    clock.advance(3)
    assert _takes(limiter, ANNE, 3)


@given(texts=st.integers(1, 10), passed=st.integers(0, 20_000))
@settings(max_examples=100, deadline=None)
def test_who_waits_as_long_as_told_is_let_in(
    module_table: RateTable, module_clock: ManualClock, texts: int, passed: int
) -> None:
    limiter = RateLimiter(module_table, per_minute=61, burst=10)
    while _takes(limiter, ANNE):
        pass
    module_clock.advance(passed / 1_000)
    try:
        limiter.consume(ANNE, texts)
    except Refused as refused:
        module_clock.advance(int(dict(refused.headers)[b"retry-after"]))
        assert _takes(limiter, ANNE, texts)


def test_an_answer_says_what_is_left(limiter: RateLimiter, clock: ManualClock) -> None:
    headers = dict(limiter.consume(ANNE, 4).headers)
    assert headers == {b"ratelimit-policy": b'"texts";q=10;w=10', b"ratelimit": b'"texts";r=6;t=4'}
    clock.advance(0.5)
    assert dict(limiter.consume(ANNE, 1).headers)[b"ratelimit"] == b'"texts";r=5;t=5'


def test_more_than_a_burst_is_refused_for_good(limiter: RateLimiter) -> None:
    with pytest.raises(Refused, match="more than the 10 texts that one caller may send at once") as refused:
        limiter.consume(ANNE, 11)
    assert refused.value.code == "too_many_texts"
    assert _takes(limiter, ANNE, 10), "and costs nothing"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_step_of_the_wall_clock_changes_nothing(
    limiter: RateLimiter, clock: ManualClock, hours: int
) -> None:
    assert _takes(limiter, ANNE, 10)
    clock.step_utc(hours * 3_600)
    assert not _takes(limiter, ANNE)
    clock.advance(1)
    assert [_takes(limiter, ANNE) for _ in range(2)] == [True, False]


def test_smaller_burst_caps_what_was_counted_before(
    module_table: RateTable, module_clock: ManualClock
) -> None:
    caller = Caller("x", "changed settings")
    RateLimiter(module_table, per_minute=1, burst=1_000).consume(caller, 1_000)
    limiter = RateLimiter(module_table, per_minute=60, burst=2)
    assert not _takes(limiter, caller)
    module_clock.advance(2)
    assert _takes(limiter, caller, 2)


@pytest.fixture
def serve(tmp_path: Path, clock: ManualClock) -> Callable[[Callable[..., object]], object]:
    """Run a conversation with an application that lets ten texts a minute pass, five at once."""
    chosen = Settings(rate_per_minute=10, rate_burst=5, rate_file=str(tmp_path / "rates.tamis"), max_texts=20)

    def run(talk: Callable[..., object]) -> object:
        async def conversation() -> object:
            async with client_of(make_app(chosen, clock=clock)) as client:
                return await talk(client)  # type: ignore[misc]

        return asyncio.run(conversation())

    return run


def test_predictions_are_counted_by_their_texts_over_http(
    serve: Callable[..., object], clock: ManualClock
) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        one = await client.get("/prediction?text=x")
        assert one.headers["ratelimit-policy"] == '"texts";q=5;w=30'
        assert one.headers["ratelimit"] == '"texts";r=4;t=6'
        three = await client.post("/predictions", json={"texts": ["x", "y", "z"]})
        assert three.headers["ratelimit"] == '"texts";r=1;t=24'
        broken = await client.post("/predictions", json={"texts": [1]})
        assert broken.status_code == 422
        assert (await client.post("/prediction", json={"text": "x"})).headers[
            "ratelimit"
        ] == '"texts";r=0;t=30'
        refused = await client.post("/prediction", json={"text": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert refused.headers["retry-after"] == "6"
        assert (await client.get("/")).status_code == 200, "only texts are counted"
        clock.advance(6)
        assert (await client.post("/prediction", json={"text": "x"})).status_code == 200

    serve(talk)


def test_list_longer_than_the_burst_is_refused_over_http(serve: Callable[..., object]) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/predictions", json={"texts": ["x"] * 6})
        assert (response.status_code, response.json()["error"]["code"]) == (422, "too_many_texts")
        assert "5 texts that one caller may send at once" in response.json()["error"]["message"]

    serve(talk)


async def test_two_services_with_one_file_count_together(tmp_path: Path, clock: ManualClock) -> None:
    chosen = Settings(rate_per_minute=1, rate_burst=3, rate_file=str(tmp_path / "rates.tamis"))

    async def talk() -> list[int]:
        apps = [make_app(chosen, clock=clock) for _ in range(2)]
        async with client_of(apps[0]) as one, client_of(apps[1]) as other:
            return [
                (await client.get("/prediction?text=x")).status_code for client in (one, other, one, other)
            ]

    assert await talk() == [200, 200, 200, 429]


def test_two_real_workers_let_exactly_one_burst_in(tmp_path: Path) -> None:
    limits = {"TAMIS_RATE_PER_MINUTE": "1", "TAMIS_RATE_BURST": "100", "TAMIS_DRAIN_SECONDS": "0"}
    with serving(tmp_path, "--mock", "--workers", "2", **limits) as service:

        def ask(number: int) -> int:  # on a connection of its own: either worker may answer
            return httpx.get(f"{service.address}/prediction", params={"text": str(number)}).status_code

        with ThreadPoolExecutor(8) as clients:
            statuses = Counter(clients.map(ask, range(150)))
    assert statuses == {200: 100, 429: 50}


async def test_answers_have_no_such_headers_when_there_is_no_limit() -> None:
    async def ask() -> httpx.Response:
        async with client_of(make_app()) as client:
            return await client.get("/prediction?text=x")

    response = await ask()
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("ratelimit")]
