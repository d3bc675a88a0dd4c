"""The rate limit counts texts that were answered: not those that were refused or that failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.responses import Refused
from tamis.service.security.client_identity import Caller
from tamis.service.security.rate_limit import Charge, RateLimiter
from tamis.service.security.rate_table import RateTable
from tests.support.fakes import ManualClock
from tests.support.processes import Service, serving

BURST = 1_000_000
LIST_TEXTS = 500


@pytest.mark.parametrize("workers", ["1", "2"])
def test_refused_texts_are_not_counted_under_overload(tmp_path: Path, workers: str) -> None:
    limits = {
        "TAMIS_RATE_PER_MINUTE": "1",  # nothing comes back within the test
        "TAMIS_RATE_BURST": str(BURST),
        "TAMIS_MAX_QUEUE_SECONDS": "0",  # whatever has to wait for the model is refused
        "TAMIS_DRAIN_SECONDS": "0",
    }
    with serving(tmp_path, "--mock", "--workers", workers, **limits) as service:
        with ThreadPoolExecutor(8) as clients:
            seen: Counter[int] = sum(clients.map(lambda number: _burst(service, number), range(8)), Counter())
        counted = BURST - _left(service) - 1
    assert seen[503] > 0, "the test must overload the service"
    assert seen[422] > 0 < seen[200]
    assert counted == seen[200]


def _burst(service: Service, client: int) -> Counter[int]:
    """Send lists, every fifth of them invalid; return texts by status."""
    seen: Counter[int] = Counter()
    with httpx.Client(base_url=service.address, timeout=60) as http:
        for number in range(30):
            texts: list[object] = [f"{client} {number} {index}" for index in range(LIST_TEXTS)]
            if number % 5 == 0:
                texts[-1] = 1
            seen[http.post("/predictions", json={"texts": texts}).status_code] += LIST_TEXTS
    return seen


def _left(service: Service) -> int:
    """Send one text more and return how many may follow; repeated until the queue is empty."""
    for number in count():
        response = httpx.post(f"{service.address}/prediction", json={"text": f"the last one {number}"})
        if response.status_code == 200:
            found = re.search(r"r=(\d+)", response.headers["ratelimit"])
            assert found
            return int(found[1])
    raise AssertionError("numbers do not end")


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[RateTable]:
    table = RateTable(tmp_path_factory.mktemp("rates") / "rates.tamis", clock)
    yield table
    table.close()


_numbers = count()


@given(
    before=st.integers(0, 10),
    pause_before=st.integers(0, 20_000),
    refunded=st.integers(1, 10),
    pause=st.integers(0, 20_000),
)
@settings(max_examples=300, deadline=None)
def test_a_refund_leaves_the_caller_as_if_never_charged(
    table: RateTable, clock: ManualClock, before: int, pause_before: int, refunded: int, pause: int
) -> None:
    limiter = RateLimiter(table, per_minute=60, burst=20)
    charged, untouched = (Caller("x", f"caller {next(_numbers)}") for _ in range(2))
    for caller in (charged, untouched):
        limiter.consume(caller, before)
    clock.advance(pause_before / 1_000)
    charge = limiter.consume(charged, refunded)
    clock.advance(pause / 1_000)
    limiter.refund(charge)
    assert limiter.consume(charged, 1).headers == limiter.consume(untouched, 1).headers


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 5_000)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_refunds_never_let_more_than_the_burst_in(
    table: RateTable, clock: ManualClock, steps: list[tuple[bool, int, int]]
) -> None:
    limiter, caller = RateLimiter(table, per_minute=60, burst=10), Caller("x", f"caller {next(_numbers)}")
    open_charges: list[tuple[Charge, int]] = []
    let_in, seconds = 0, 0.0
    for is_refund, texts, pause in steps:
        clock.advance(pause / 1_000)
        seconds += pause / 1_000
        if is_refund and open_charges:
            charge, refunded = open_charges.pop()
            limiter.refund(charge)
            let_in -= refunded
            continue
        try:
            open_charges.append((limiter.consume(caller, texts), texts))
        except Refused:
            continue
        let_in += texts
        assert let_in <= 10 + seconds + 1e-6
