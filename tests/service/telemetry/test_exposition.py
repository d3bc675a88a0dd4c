"""The text that Prometheus reads, held to its own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tamis.service.telemetry.exposition import exposition, sample
from tamis.service.telemetry.metric_types import Histogram, Merge, MetricLayout
from tamis.service.telemetry.shared_values import LAYOUT_BYTES, SharedValues, Snapshot


def _layout() -> MetricLayout:
    layout = MetricLayout()
    layout.counter("seen_total", "Things seen.", colour=("red", "blue"), size=("s", "m", "l"))
    layout.counter("plain_total", "Things.")
    layout.gauge("open", "Open things.", Merge.SUM_OF_LIVING)
    layout.gauge("highest", "The highest.", Merge.MAX_OF_LIVING)
    layout.histogram("took_seconds", "Time.", (0.1, 1.0), colour=("red", "blue"))
    return layout


def _text(layout: MetricLayout, *snapshots: Snapshot) -> str:
    return "".join(f"{line}\n" for line in exposition(layout.families, snapshots))


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (found.name, tuple(found.labels.items())): found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
    }


def test_the_page_reads_as_the_format_has_it() -> None:
    layout = MetricLayout()
    layout.counter("seen_total", "Things seen.", colour=("red", "blue"))
    layout.histogram("took_seconds", "Time.", (0.1, 1.0))
    values = [0.0, 3.0, 2.0, 1.0, 4.0, 9.5]
    assert _text(layout, Snapshot(0, 1, True, values)) == (
        "# HELP seen_total Things seen.\n"
        "# TYPE seen_total counter\n"
        'seen_total{colour="blue"} 3\n'
        "# HELP took_seconds Time.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{le="0.1"} 2\n'
        'took_seconds_bucket{le="1"} 3\n'
        'took_seconds_bucket{le="+Inf"} 7\n'
        "took_seconds_sum 9.5\n"
        "took_seconds_count 7\n"
    )


def test_exposition_keeps_counters_not_gauges_of_ended_processes() -> None:
    layout = _layout()
    ended, living = [1.0] * layout.size, [2.0] * layout.size
    found = _samples(_text(layout, Snapshot(0, 1, False, ended), Snapshot(1, 2, True, living)))
    assert found["seen_total", (("colour", "red"), ("size", "m"))] == 3
    assert found["plain_total", ()] == 3
    assert found["open", ()] == 2
    assert found["highest", ()] == 2
    assert found["took_seconds_count", (("colour", "red"),)] == 9


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_a_slot_belongs_to_one_series_only(colour: str) -> None:
    layout = _layout()
    slots = [family.slot(*labels) for family in layout.families for _, labels in family.series()]
    assert slots == [slot for family in layout.families for slot, _ in family.series()]
    assert len({*slots}) == len(slots)
    assert layout.families[-1].slot(colour) + layout.families[-1].width <= layout.size


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.05, 0.1, 0.100001, 1.0, 1.5, 1e9]), max_size=30))
def test_a_histogram_holds_every_observation_up_to_its_bound(observed: list[float]) -> None:
    layout = MetricLayout()
    family = layout.histogram("took_seconds", "Time.", (0.1, 1.0))
    slots = SharedValues(layout.size, bytes(LAYOUT_BYTES))
    histogram = Histogram(slots.values, family.first, family.bounds)
    for number in observed:
        histogram.observe(number)
    found = _samples(_text(layout, *slots.snapshots()))
    for bound, shown in [(0.1, "0.1"), (1.0, "1"), (math.inf, "+Inf")]:
        assert found["took_seconds_bucket", (("le", shown),)] == sum(n <= bound for n in observed)
    assert found["took_seconds_sum", ()] == pytest.approx(sum(observed))


@settings(deadline=None)
@given(st.text(), st.floats(0, allow_nan=False))
def test_any_label_and_number_is_read_back(value: str, number: float) -> None:
    line = sample("seen", {"colour": value}, number)
    assert line.splitlines()[0] == line or "\n" not in line
    if not {"\r", "\x85", "\u2028", "\u2029"} & {*value} and value.isprintable():
        assert _samples(f"# TYPE seen gauge\n{line}\n") == {("seen", (("colour", value),)): number}


def test_what_a_slot_means_is_in_the_digest() -> None:
    layout = _layout()
    before = layout.digest
    assert before == _layout().digest
    layout.counter("more_total", "More.")
    assert layout.digest != before
