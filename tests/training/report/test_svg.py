"""Charts stay within their frame and their axes name round values."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.training.report.render import figure
from tamis.training.report.svg import Series, chart, count_axis, logarithmic_axis, percent_axis

SHARES = st.floats(0, 1)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=20), SHARES)
@settings(max_examples=100, deadline=None)
def test_everything_is_drawn_within_the_frame(points: list[tuple[float, float]], low: float):
    y = percent_axis("y", min(low, 0.95))
    series = [Series("a", points), Series("b", points, "dots")]
    drawn = figure(chart("t", "m", logarithmic_axis("x", 0.001, 1), y, series))
    svg = ElementTree.fromstring(drawn).findall("svg")[0]
    for line in svg.iter("polyline"):
        for place in line.attrib["points"].split():
            x, at = map(float, place.split(","))
            assert 58 <= x <= 416
            assert 12 <= at <= 260


@pytest.mark.parametrize(
    ("low", "expected"),
    [(0.0, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]), (0.943, ["94 %", "96 %", "98 %", "100 %"])],
)
def test_shares_have_round_ticks(low: float, expected: list[str]):
    assert [name for _, name in percent_axis("accuracy", low).ticks] == expected


def test_a_narrow_range_gets_decimals():
    assert [name for _, name in percent_axis("accuracy", 0.993).ticks][:2] == ["99.2 %", "99.4 %"]


def test_counts_have_ticks_around_their_range():
    axis = count_axis("texts", 252, 5045)
    assert [name for _, name in axis.ticks] == ["200", "500", "1,000", "2,000", "5,000", "10,000"]
    assert axis.share(200) == 0
    assert axis.share(10_000) == 1


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_counts_of_any_size_lie_on_their_axis(one: int, other: int):
    low, high = sorted((one, other))
    if low < high:
        axis = count_axis("texts", low, high)
        assert axis.low <= low
        assert axis.high >= high


def test_powers_of_ten_get_the_same_room():
    axis = logarithmic_axis("rate", 0.0005, 1)
    assert [name for _, name in axis.ticks] == ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"]
    assert axis.share(0.01) == pytest.approx(0.5)


def test_names_are_escaped_and_one_series_needs_no_legend():
    x = percent_axis("<x>")
    two = figure(chart("a & b", "c < d", x, x, [Series("<one>", [(0, 0)]), Series("two", [(1, 1)])]))
    assert "&lt;one&gt;" in two
    assert "a &amp; b" in two
    assert "c &lt; d" in two
    assert "<x>" not in two
    assert 'class="legend"' not in figure(chart("t", "m", x, x, [Series("one", [(0, 0)])]))


def test_intervals_reach_from_low_to_high():
    x = percent_axis("x")
    drawn = figure(chart("t", "m", x, x, [Series("a", [(0.5, 0.5)], "dots", [(0.25, 1.0)])]))
    low, high = map(float, re.findall(r"M242 ([\d.]+)V([\d.]+)", drawn)[0])
    assert (low, high) == (198, 12)
