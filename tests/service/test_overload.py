"""Five times more than can be served arrives, whether or not earlier requests are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx
import pytest

from tamis.settings import Settings
from tests.asynchronous import asynchronous
from tests.scorers import WatchedScorer, classifier_with
from tests.serving import client_of, make_app

TEXT_SECONDS = 0.002
TEXTS_EACH = 20
CAPACITY = 1 / (TEXT_SECONDS * TEXTS_EACH)
"""Requests a second that the model can serve, at the very best."""

MAX_QUEUE_SECONDS = 0.5


class _SteadyScorer(WatchedScorer):
    """A heavy model that takes the same time for every text."""

    is_heavy = True

    def __init__(self) -> None:
        super().__init__(before=_take_time)


def _take_time(texts: Sequence[str]) -> None:
    time.sleep(TEXT_SECONDS * len(texts))  # stands for the work of a network


@pytest.mark.parametrize("seconds", [2.0, pytest.param(20.0, marks=pytest.mark.soak)])
@asynchronous
async def test_goodput_stays_when_five_times_the_capacity_arrives(seconds: float) -> None:
    app = make_app(Settings(max_queue_seconds=MAX_QUEUE_SECONDS), classifier_with(_SteadyScorer()))
    async with client_of(app) as client:
        for number in range(5):
            await _ask(client, f"measured {number}")  # its speed is known from here on
        began = time.monotonic()
        asked = []
        for number in range(round(5 * CAPACITY * seconds)):
            asked.append(asyncio.create_task(_ask(client, f"{number}")))
            await asyncio.sleep(max(0, began + number / (5 * CAPACITY) - time.monotonic()))
        answers = await asyncio.gather(*asked)
        elapsed = time.monotonic() - began
        again = await _ask(client, "afterwards")
    served = [took for status, took in answers if status == 200]
    refused = [took for status, took in answers if status == 503]
    goodput = len(served) / elapsed / CAPACITY
    print(  # noqa: T201 - the figures of `make soak`
        f"goodput {goodput:.0%} of the capacity, slowest served {max(served):.2f} s, "
        f"median refusal {sorted(refused)[len(refused) // 2] * 1e3:.1f} ms"
    )
    assert len(served) + len(refused) == len(answers)
    assert goodput > 0.9
    assert max(served) < MAX_QUEUE_SECONDS + 1
    assert sorted(refused)[len(refused) // 2] < 0.1
    assert again[0] == 200 and again[1] < 1


async def _ask(client: httpx.AsyncClient, name: str) -> tuple[int, float]:
    """Send a list that nobody has asked for; return the status and how long the answer took."""
    began = time.monotonic()
    texts = [f"{name} {place}" for place in range(TEXTS_EACH)]
    response = await client.post("/predictions", json={"texts": texts})
    assert response.status_code == 200 or response.headers["retry-after"] == "1"
    return response.status_code, time.monotonic() - began
