"""Five times more than can be served arrives, whether or not earlier requests are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx
import pytest

from tamis.settings import Settings
from tests.support.scorers import WatchedScorer, classifier_with
from tests.support.serving import client_of, make_app

pytestmark = pytest.mark.alone

TEXT_SECONDS = 0.002
TEXTS_EACH = 20
MAX_QUEUE_SECONDS = 0.5
PATIENT_CLIENTS = 4
"""As many as keep the model busy and never wait too long for it."""

ATTEMPTS = 3
"""The capacity is measured first; on a machine that others use too it may be less a second later."""


class _SteadyScorer(WatchedScorer):
    """A heavy model that takes the same time for every text."""

    is_heavy = True

    def __init__(self) -> None:
        super().__init__(before=_take_time)


def _take_time(texts: Sequence[str]) -> None:
    time.sleep(TEXT_SECONDS * len(texts))  # stands for the work of a network


@pytest.mark.parametrize("seconds", [2.0, pytest.param(20.0, marks=pytest.mark.soak)])
async def test_goodput_stays_when_five_times_the_capacity_arrives(seconds: float) -> None:
    assert await _best_goodput(seconds) > 0.9


async def _best_goodput(seconds: float) -> float:
    goodput = 0.0
    app = make_app(Settings(max_queue_seconds=MAX_QUEUE_SECONDS), classifier_with(_SteadyScorer()))
    async with client_of(app) as client:
        for attempt in range(ATTEMPTS):
            goodput = max(goodput, await _goodput(client, f"attempt {attempt}", seconds=seconds))
            if goodput > 0.9:
                break
    return goodput


async def _goodput(client: httpx.AsyncClient, name: str, *, seconds: float) -> float:
    """Ask for five times the capacity and check every answer; return the share of it that was of use."""
    capacity = await _capacity(client, name, seconds=max(1.0, seconds / 4))
    began = time.monotonic()
    asked, latest = [], 0.0
    for number in range(round(5 * capacity * seconds)):
        asked.append(asyncio.create_task(_ask(client, f"{name} {number}")))
        due = began + number / (5 * capacity)
        await asyncio.sleep(max(0, due - time.monotonic()))
        latest = max(latest, time.monotonic() - due)
    answers = await asyncio.gather(*asked)
    elapsed = time.monotonic() - began
    again = await _ask(client, f"{name} afterwards")
    served = [took for status, took in answers if status == 200]
    refused = sorted(took for status, took in answers if status == 503)
    goodput, median_refusal = len(served) / elapsed / capacity, refused[len(refused) // 2]
    print(  # noqa: T201 - the figures of `make soak`
        f"goodput {goodput:.0%} of {capacity:.1f} requests/s, slowest served {max(served):.2f} s, "
        f"median refusal {median_refusal * 1e3:.1f} ms, the next one {again[1]:.2f} s; "
        f"requests went out up to {latest:.2f} s late"
    )
    assert len(served) + len(refused) == len(answers)
    assert max(served) < MAX_QUEUE_SECONDS + 1 + latest, "a busy machine holds up clients and service alike"
    assert median_refusal < 0.1
    assert again[0] == 200 and again[1] < 1
    return goodput


async def _capacity(client: httpx.AsyncClient, name: str, *, seconds: float) -> float:
    """Return how many requests a second are answered on this machine when nobody asks for more."""
    began = time.monotonic()

    async def ask_on(client_name: str) -> int:
        answered = 0
        while time.monotonic() < began + seconds:
            status, _ = await _ask(client, f"{client_name} {time.monotonic()}")
            answered += status == 200
        return answered

    answered = await asyncio.gather(
        *(ask_on(f"{name}, patient {number}") for number in range(PATIENT_CLIENTS))
    )
    return sum(answered) / (time.monotonic() - began)


async def _ask(client: httpx.AsyncClient, name: str) -> tuple[int, float]:
    """Send a list that nobody has asked for; return the status and how long the answer took."""
    began = time.monotonic()
    texts = [f"{name} {place}" for place in range(TEXTS_EACH)]
    response = await client.post("/predictions", json={"texts": texts})
    assert response.status_code == 200 or response.headers["retry-after"] == "1"
    return response.status_code, time.monotonic() - began
