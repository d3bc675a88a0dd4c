"""Charts laid out in pixels: axes with ticks and units, lines, dots with intervals. Handles numbers only.

`templates/chart.svg.j2` writes them as SVG; colours are numbers, so that the page's style sheet has those of
light, dark and printed pages. In place of matplotlib: a dependency less for six small charts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_WIDTH, _HEIGHT = 440, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 24, 12, 50
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
# as many as `report.css` has; further series would begin again at the first
_COLOURS = 8
_CAP = 3  # half the width of an interval's ends

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from `low` to `high`, with values written at `ticks`."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where `value` lies, 0 at the low end and 1 at the high one; beyond an end, at that end."""
        # such as a false-positive rate of 0, which a logarithmic axis does not have
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Series:
    """Points in one colour; `intervals` are low and high of each point."""

    name: str
    points: Sequence[Point]
    kind: Literal["line", "dots", "guide"] = "line"
    intervals: Sequence[Point] = ()


def percent_axis(label: str, low: float = 0.0, high: float = 1.0) -> Axis:
    """Return an axis of shares, its ticks in per cent."""
    step = _nice_step((high - low) / 5)
    # 1e-9 here and below: 0.3 / 0.1 is a little less than 3, and must count as 3
    low = math.floor(low / step + 1e-9) * step
    digits = max(0, math.ceil(-math.log10(step * 100) - 1e-9))
    count = round((high - low) / step)
    values = (low + step * i for i in range(count + 1))
    return Axis(label, low, high, tuple((v, f"{v * 100:.{digits}f} %") for v in values if v <= high + 1e-9))


def logarithmic_axis(label: str, low: float, high: float) -> Axis:
    """Return an axis of shares that gives every power of ten the same room."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    ticks = tuple((10.0**power, f"{10.0 ** (power + 2):g} %") for power in range(first, last + 1))
    return Axis(label, 10.0**first, 10.0**last, ticks, logarithmic=True)


def count_axis(label: str, low: float, high: float) -> Axis:
    """Return a logarithmic axis of counts, with ticks at 1, 2 and 5 of each power of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [factor * 10**power for power in powers for factor in (1, 2, 5)]
    # from the last mark below the values to the first one above: a point at an edge would be cut in half
    below = [mark for mark in marks if mark <= low]
    above = [mark for mark in marks if mark >= high]
    kept = [mark for mark in marks if below[-1] <= mark <= above[0]]
    return Axis(label, kept[0], kept[-1], tuple((float(m), f"{m:,}") for m in kept), logarithmic=True)


@dataclass(frozen=True)
class Mark:
    """A text or a grid line at `at`, in pixels from the left or from the top."""

    at: str
    name: str


@dataclass(frozen=True)
class Drawn:
    """A series in pixels: its points, and the path of its intervals."""

    name: str
    kind: str
    colour: int
    points: tuple[tuple[str, str], ...]
    intervals: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """A chart as its template draws it: everything is in pixels and nothing is escaped yet."""

    title: str
    caption: str
    x_label: str
    y_label: str
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    series: tuple[Drawn, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    top: int = _TOP
    right: int = _LEFT + _PLOT_WIDTH
    bottom: int = _TOP + _PLOT_HEIGHT

    @property
    def legend(self) -> tuple[Drawn, ...]:
        """The series that a legend must name; none if there is only one."""
        shown = tuple(one for one in self.series if one.kind != "guide")
        return shown if len(shown) > 1 else ()


def chart(title: str, caption: str, x: Axis, y: Axis, series: Sequence[Series]) -> Chart:
    """Lay out a chart; `caption` is a sentence on how to read it."""
    return Chart(
        title,
        caption,
        x.label,
        y.label,
        tuple(Mark(_x(x, value), name) for value, name in x.ticks),
        tuple(Mark(_y(y, value), name) for value, name in y.ticks),
        tuple(_drawn(one, number % _COLOURS, x, y) for number, one in enumerate(series)),
    )


def _drawn(series: Series, colour: int, x: Axis, y: Axis) -> Drawn:
    points = tuple((_x(x, px), _y(y, py)) for px, py in series.points)
    spread = zip(points, series.intervals, strict=False)  # a series may have no intervals
    intervals = tuple(_interval(float(at), _y(y, low), _y(y, high)) for (at, _), (low, high) in spread)
    return Drawn(series.name, series.kind, colour, points, intervals)


def _interval(at: float, low: str, high: str) -> str:
    """Return the path of a vertical bar with a cap at both ends."""
    caps = " ".join(f"M{_number(at - _CAP)} {end}h{2 * _CAP}" for end in (low, high))
    return f"M{_number(at)} {low}V{high} {caps}"


def _x(axis: Axis, value: float) -> str:
    return _number(_LEFT + axis.share(value) * _PLOT_WIDTH)


def _y(axis: Axis, value: float) -> str:
    return _number(_TOP + (1 - axis.share(value)) * _PLOT_HEIGHT)


def _number(value: float) -> str:
    """Return a coordinate to a tenth of a pixel: the same digits on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def _nice_step(minimum: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least `minimum`."""
    steps = (factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5))
    return next(step for step in steps if step >= minimum * (1 - 1e-9))
