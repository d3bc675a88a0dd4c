"""Shadow and canary: who is answered by which version, what is compared, and when a canary is aborted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.artifact.traffic import Canary, TrafficPlan, read_traffic, set_canary, set_shadow, stop_canary
from tamis.clock import SystemClock
from tamis.errors import ArtifactError
from tamis.events import Events
from tamis.inference.comparer import Comparer, ComparisonTask
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ModelLoader
from tamis.inference.shadow import Traffic
from tamis.inference.traffic_counts import TrafficCounts
from tests.support.artifacts import save_model
from tests.support.scorers import BAD, GatedScorer, WatchedScorer, classifier_with

CLOCK = SystemClock()
LOADER = ModelLoader(CLOCK, 5.0, Events())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "spam"
    save_model(folder)
    save_model(folder, metrics={"accuracy": {"value": 0.5}})
    return folder


@pytest.fixture
def counts(tmp_path: Path) -> TrafficCounts:
    return TrafficCounts(tmp_path / "spam.counts", ["ham", "spam"])


async def _results(counts: TrafficCounts) -> dict[str, int]:
    await counts.flush()
    return {str(result): count for result, count in counts.results.items() if count}


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


async def test_shadow_that_never_ends_drops_texts(counts: TrafficCounts) -> None:
    scorer = GatedScorer()
    served, other = LOADER.serve(classifier_with(WatchedScorer())), LOADER.serve(classifier_with(scorer))
    comparer = Comparer(CLOCK)
    scorer.gate.clear()
    for number in range(1_000):
        text = f"text {number}"
        task = ComparisonTask(text, served.classifier.predict(text), served, other, counts)
        comparer.submit(task)
    assert await _results(counts) == {"dropped": 1_000 - 256}
    scorer.gate.set()
    await comparer.finish()
    await comparer.close()
    assert await _results(counts) == {"agreed": 256, "dropped": 1_000 - 256}


async def test_shadow_waits_for_no_prediction(counts: TrafficCounts) -> None:
    scorer = GatedScorer()
    served, other = LOADER.serve(classifier_with(scorer)), LOADER.serve(classifier_with(WatchedScorer()))
    task = ComparisonTask("hello", served.classifier.predict("hello"), served, other, counts)
    scorer.gate.clear()
    waiting = served.batcher.submit(["a text that waits"])
    comparer = Comparer(CLOCK)
    comparer.submit(task)
    scorer.gate.set()
    await waiting
    await comparer.close()
    await served.batcher.close()
    assert await _results(counts) == {"dropped": 1}


async def test_shadow_that_fails_is_counted(counts: TrafficCounts) -> None:
    served, comparer = LOADER.serve(classifier_with(WatchedScorer())), Comparer(CLOCK)
    answer = served.classifier.predict("hello")
    for text in (BAD, "hello"):
        comparer.submit(ComparisonTask(text, answer, served, served, counts))
    await comparer.finish()
    await comparer.close()
    assert await _results(counts) == {"failed": 1, "agreed": 1}


@pytest.mark.parametrize(
    ("errors", "requests", "is_over"), [(29, 29, False), (1, 1_000, False), (30, 30, True), (50, 1_000, True)]
)
async def test_canary_is_over_its_bound_at_95_percent(
    counts: TrafficCounts, errors: int, requests: int, is_over: bool
) -> None:
    for number in range(requests):
        counts.answered(is_canary=True, is_error=number < errors, seconds=0.001)
    await counts.flush()
    assert bool(counts.excess(Canary(version=2, share=0.1, key="k", max_errors=0.01))) is is_over


async def test_counts_of_all_workers_abort_a_canary(counts: TrafficCounts) -> None:
    """Neither of two workers has seen enough alone; a third one that starts later knows what both saw."""
    canary = Canary(version=2, share=0.1, key="k", max_errors=0.01, max_disagreement=0.05)
    other = TrafficCounts(counts.path, ["ham", "spam"])
    for worker in (counts, other):
        for _ in range(20):
            worker.answered(is_canary=True, is_error=True, seconds=0.001)
        await worker.flush()
    assert counts.excess(canary) == "", "it has not read what the other has added"
    await counts.flush()
    again = TrafficCounts(counts.path, ["ham", "spam"])
    await again.flush()
    for worker in (counts, other, again):
        assert worker.excess(canary) == "errors: 40 of 40 is over 1.00%"
        worker.close()


async def test_sides_have_shares_and_intervals(counts: TrafficCounts) -> None:
    for number in range(40):
        counts.answered(
            is_canary=False, is_error=False, seconds=number / 1_000, labels=["ham", "spam", "ham"]
        )
    counts.answered(is_canary=True, is_error=True, seconds=0.5)
    await counts.flush()
    served, canary = (counts.side(side).as_dict() for side in ("served", "canary"))
    assert served["requests"] == 40 and served["errors"]["count"] == 0 and served["errors"]["high"] < 0.1
    assert served["labels"]["ham"]["share"] == 80 / 120
    assert served["labels"]["ham"]["low"] < 80 / 120 < served["labels"]["ham"]["high"]
    assert served["seconds"]["mean"] == pytest.approx(0.0195)
    assert served["seconds"]["low"] == pytest.approx(0.0195 - 1.96 * 0.011543 / 40**0.5, rel=1e-3)
    assert (canary["requests"], canary["errors"]["share"]) == (1, 1.0)


@pytest.mark.parametrize("content", [b"", b"damaged" * 40, b"\0" * 5_000])
async def test_counts_of_another_shape_begin_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spam.counts"
    path.write_bytes(content)
    counts = TrafficCounts(path, ["ham", "spam"])
    counts.compared("agreed", 0.01, 0.2)
    assert await _results(counts) == {"agreed": 1}
    counts.close()


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
    set_canary(f"{folder}@1", 0.5)
    pool = ModelPool(LOADER)
    pool.open(str(folder))
    traffic = Traffic(pool, CLOCK)
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


async def test_counts_stay_in_the_process_without_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "canary.counts"
    counts = TrafficCounts(path, ["ham", "spam"])
    [descriptor] = [one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(path)]
    os.close(int(descriptor.name))  # to lock it fails from now on, as on a file system that has no locks
    for _ in range(2):
        counts.answered(is_canary=True, is_error=False, seconds=0.1, labels=["spam"])
        await counts.flush()
    assert counts.side("canary").requests == 2


async def test_late_worker_keeps_the_counts_of_a_newer_plan(folder: Path) -> None:
    set_canary(f"{folder}@1", 0.5)
    pool = ModelPool(LOADER)
    pool.open(str(folder))
    late = Traffic(pool, CLOCK)
    following = asyncio.create_task(late.refresh())
    await asyncio.sleep(0)  # it has read the plan, and loads the version in a thread
    set_canary(f"{folder}@1", 0.5)
    canary = read_traffic(folder).canary
    assert canary is not None
    begun = TrafficCounts(folder / "traffic" / f"canary-{canary.key[:16]}.counts", ["ham", "spam"])
    await following
    assert begun.path.exists(), "another worker follows the newer plan already"
    begun.close()
    await late.refresh()
    assert late.models["spam"].canary.counts.path == begun.path  # type: ignore[union-attr]  # as asserted
    assert [*begun.path.parent.glob("*.counts")] == [begun.path]
    await late.close()
    (folder / "traffic.json").unlink()


async def test_workers_that_serve_other_labels_count_together(tmp_path: Path) -> None:
    """While an alias moves, workers serve different versions for a moment."""
    folder = tmp_path / "topics"
    for labels in (("ham", "spam"), ("ham", "question", "spam"), ("ham", "spam")):
        save_model(folder, labels=labels)
    set_canary(f"{folder}@3", 0.5)
    workers = []
    for served in (1, 2):
        pool = ModelPool(LOADER)
        pool.open(f"{folder}@{served}")
        workers.append(Traffic(pool, CLOCK))
        await workers[-1].refresh()
        canary = workers[-1].models["topics"].canary
        assert canary is not None
        workers[-1].answered(canary.model, [], [], 0.1)
        await workers[-1].add_up()
    assert canary.counts.side("canary").requests == 2
    for worker in workers:
        await worker.close()


async def test_counts_ignore_a_label_of_another_version(tmp_path: Path) -> None:
    counts = TrafficCounts(tmp_path / "canary.counts", ["ham", "spam"])
    counts.answered(is_canary=False, is_error=False, seconds=0.1, labels=["spam", "promotion"])
    await counts.flush()
    assert counts.side("served").labels == {"ham": 0, "spam": 1}
    counts.close()
