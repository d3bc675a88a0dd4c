"""Charts as SVG text: axes with ticks and units, lines, dots with intervals. Knows numbers, not models.

Colours are classes, so that the page decides how they look by day, by night and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

_WIDTH, _HEIGHT = 440, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 12, 50
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
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
        """Return where `value` lies, 0 at the low end and 1 at the high one."""
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
    below = [mark for mark in marks if mark <= low]
    above = [mark for mark in marks if mark >= high]
    kept = [mark for mark in marks if below[-1] <= mark <= above[0]]
    return Axis(label, kept[0], kept[-1], tuple((float(m), f"{m:,}") for m in kept), logarithmic=True)


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """Return a figure of its own with a title and, for several series, a legend."""
    drawn = "".join([_grid(x, y), *(_series(one, number, x, y) for number, one in enumerate(series))])
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{_legend(series)}"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg></figure>"
    )


def _legend(series: Sequence[Series]) -> str:
    shown = [(number, one) for number, one in enumerate(series) if one.kind != "guide"]
    if len(shown) < 2:
        return ""
    keys = "".join(
        f'<span><svg class="key" viewBox="0 0 24 10">{_key(one, number)}</svg>{escape(one.name)}</span>'
        for number, one in shown
    )
    return f'<div class="legend">{keys}</div>'


def _key(series: Series, number: int) -> str:
    if series.kind == "dots":
        return f'<circle class="dot c{number % 8}" cx="12" cy="5" r="3.5"/>'
    return f'<line class="line c{number % 8}" x1="0" x2="24" y1="5" y2="5"/>'


def _grid(x: Axis, y: Axis) -> str:
    bottom, right = _TOP + _PLOT_HEIGHT, _LEFT + _PLOT_WIDTH
    parts = []
    for value, name in x.ticks:
        at = _x(x, value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 17}" text-anchor="middle">{escape(name)}</text>')
    for value, name in y.ticks:
        at = _y(y, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<text x="{_LEFT - 7}" y="{_number(float(at) + 4)}" text-anchor="end">{escape(name)}</text>'
        )
    middle_x, middle_y = _LEFT + _PLOT_WIDTH / 2, _TOP + _PLOT_HEIGHT / 2
    parts.append(
        f'<text class="axis" x="{_number(middle_x)}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x.label)}</text>"
        f'<text class="axis" transform="translate(13 {_number(middle_y)}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _series(series: Series, number: int, x: Axis, y: Axis) -> str:
    places = [(_x(x, px), _y(y, py)) for px, py in series.points]
    colour = f"c{number % 8}"
    if series.kind != "dots":
        line = " ".join(f"{px},{py}" for px, py in places)
        return f'<polyline class="{series.kind} {colour}" points="{line}"/>' + "".join(
            _interval(series, place, x, y, colour) for place in range(len(series.intervals))
        )
    dots = "".join(f'<circle class="dot {colour}" cx="{px}" cy="{py}" r="3.5"/>' for px, py in places)
    bars = "".join(_interval(series, place, x, y, colour) for place in range(len(series.intervals)))
    return bars + dots


def _interval(series: Series, place: int, x: Axis, y: Axis, colour: str) -> str:
    at = float(_x(x, series.points[place][0]))
    low, high = (_y(y, value) for value in series.intervals[place])
    ends = " ".join(_end(at, end) for end in (low, high))
    return f'<path class="interval {colour}" d="M{_number(at)} {low}V{high} {ends}"/>'


def _end(at: float, y: str) -> str:
    return f"M{_number(at - _CAP)} {y}h{2 * _CAP}"


def _x(axis: Axis, value: float) -> str:
    return _number(_LEFT + axis.share(value) * _PLOT_WIDTH)


def _y(axis: Axis, value: float) -> str:
    return _number(_TOP + (1 - axis.share(value)) * _PLOT_HEIGHT)


def _number(value: float) -> str:
    """Return a coordinate to a tenth of a pixel: the same digits on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def _nice_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least `least`."""
    return next(step for step in _steps() if step >= least * (1 - 1e-9))


def _steps() -> Iterator[float]:
    for power in range(-6, 7):
        for factor in (1, 2, 5):
            yield factor * 10.0**power
