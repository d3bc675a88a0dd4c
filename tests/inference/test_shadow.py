"""Shadow and canary: who is answered by which version, what is compared, and when a canary is aborted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.artifact.traffic import Canary, TrafficPlan, read_traffic, set_canary, set_shadow, stop_canary
from tamis.clock import SystemClock
from tamis.errors import ArtifactError
from tamis.events import Events, TextCompared
from tamis.inference.served_model import ModelLoader, ServedModel
from tamis.inference.shadow import (
    Comparer,
    ComparisonTask,
    ModelTraffic,
    Traffic,
)
from tests.support.artifacts import save_model
from tests.support.scorers import BAD, GatedScorer, WatchedScorer, classifier_with

CLOCK = SystemClock()
LOADER = ModelLoader(CLOCK, 5.0, Events())


class Seen:
    """The events of comparisons, counted by their result."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.events = Events()
        self.events.subscribe(TextCompared, lambda event: self.results.update([event.result]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "spam"
    save_model(folder)
    save_model(folder, metrics={"accuracy": {"value": 0.5}})
    return folder


def _comparer(seen: Seen) -> Comparer:
    return Comparer(CLOCK, seen.events, lambda plan, is_same: None)


def _task(text: str, served: ServedModel, other: ServedModel) -> ComparisonTask:
    return ComparisonTask(text, served.classifier.predict(text), served, other, None)


@given(st.floats(0.01, 0.99), st.binary(min_size=16, max_size=16))
def test_canary_takes_its_share_of_callers(share: float, key: bytes) -> None:
    canary = Canary(version=2, share=share, key=key.hex())
    taken = sum(canary.takes(f"caller {number}") for number in range(2_000))
    deviation = (share * (1 - share) * 2_000) ** 0.5
    assert abs(taken - share * 2_000) < 6 * deviation + 1, "six deviations: one in 500 million"


def test_canary_of_ten_percent_takes_its_interval_of_10000() -> None:
    canary = Canary(version=2, share=0.1, key="0" * 32)
    sides = [canary.takes(f"2001:db8::{number:x}") for number in range(10_000)]
    assert 1_000 - 77 <= sum(sides) <= 1_000 + 77, "the 99 % binomial interval, for this key"
    assert sides == [canary.takes(f"2001:db8::{number:x}") for number in range(10_000)]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 1_000)])
def test_canary_of_nobody_or_everybody(share: float, expected: int) -> None:
    canary = Canary(version=2, share=share, key="k")
    assert sum(canary.takes(str(number)) for number in range(1_000)) == expected


async def test_shadow_that_never_ends_drops_texts() -> None:
    seen, scorer = Seen(), GatedScorer()
    served, other = LOADER.serve(classifier_with(WatchedScorer())), LOADER.serve(classifier_with(scorer))
    comparer = _comparer(seen)
    scorer.gate.clear()
    for number in range(1_000):
        comparer.submit(_task(f"text {number}", served, other))
    assert seen.results == {"dropped": 1_000 - 256}
    scorer.gate.set()
    await comparer.finish()
    await comparer.close()
    assert seen.results["agreed"] == 256


async def test_shadow_waits_for_no_prediction() -> None:
    seen, scorer = Seen(), GatedScorer()
    served, other = LOADER.serve(classifier_with(scorer)), LOADER.serve(classifier_with(WatchedScorer()))
    task = _task("hello", served, other)
    scorer.gate.clear()
    waiting = served.batcher.submit(["a text that waits"])
    comparer = _comparer(seen)
    comparer.submit(task)
    scorer.gate.set()
    await waiting
    await comparer.close()
    await served.batcher.close()
    assert seen.results == {"dropped": 1}


async def test_shadow_that_fails_is_counted() -> None:
    seen, served = Seen(), LOADER.serve(classifier_with(WatchedScorer()))
    comparer = _comparer(seen)
    answer = served.classifier.predict("hello")
    comparer.submit(ComparisonTask(BAD, answer, served, served, None))
    comparer.submit(ComparisonTask("hello", answer, served, served, None))
    await comparer.finish()
    await comparer.close()
    assert seen.results == {"failed": 1, "agreed": 1}


@pytest.mark.parametrize(
    ("errors", "requests", "is_over"), [(29, 29, False), (1, 1_000, False), (30, 30, True), (50, 1_000, True)]
)
def test_canary_is_over_its_bound_at_95_percent(errors: int, requests: int, is_over: bool) -> None:
    plan = TrafficPlan(Canary(version=2, share=0.1, key="k", max_errors=0.01))
    found = ModelTraffic(Path("spam"), plan, requests=requests, errors=errors)
    assert bool(found.excess) is is_over


def test_plan_keeps_the_shadow_when_the_canary_stops(folder: Path) -> None:
    set_shadow(f"{folder}@1")
    set_canary(f"{folder}@2", 0.25, max_errors=0.01)
    key = read_traffic(folder).canary.key  # type: ignore[union-attr]  # it was set in the line before
    stop_canary(folder, key="another", reason="not this one")
    assert read_traffic(folder).canary is not None, "a canary that was set meanwhile is kept"
    stop_canary(folder, key=key, reason="errors")
    assert read_traffic(folder) == TrafficPlan(None, 1, "errors")


@pytest.mark.parametrize("content", [b"", b"{", b'{"canary": 3}', b'{"shadow": "x"}', b"\xff"])
async def test_plan_that_is_damaged_leaves_the_old_one(folder: Path, content: bytes) -> None:
    from tamis.inference.model_pool import ModelPool

    set_canary(f"{folder}@1", 0.5)
    pool = ModelPool(LOADER)
    pool.open(str(folder))
    traffic = Traffic(pool, CLOCK, Events())
    await traffic.refresh()
    before = traffic.models["spam"]
    (folder / "traffic.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"traffic\.json"):
        read_traffic(folder)
    await traffic.refresh()
    assert traffic.models["spam"] is before
    (folder / "traffic.json").unlink()
    await traffic.refresh()
    assert traffic.models == {} and "1" not in pool.entries["spam"].loaded, "the canary was unloaded"
    await traffic.close()
