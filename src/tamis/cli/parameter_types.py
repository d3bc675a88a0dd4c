"""Values of options: durations, times, sizes and shares; an invalid one is a usage error with an example."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
# a century: longer spans overflow dates
_MAX_SECONDS = 100 * _SECONDS["y"]
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9}
_BOUNDS = ("errors", "disagreement")


def duration(value: str, units: str, *, allow_zero: bool = False) -> timedelta | None:
    """Return the duration of a value such as 90d; None for another unit, or more than 100 years."""
    count = "[0-9]{1,7}" if allow_zero else "[1-9][0-9]{0,6}"
    found = re.fullmatch(f"({count})([{units}])", value)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else None
    # compared as a number: a timedelta of 7-digit years overflows
    return timedelta(seconds=seconds) if seconds is not None and seconds <= _MAX_SECONDS else None


def age_option(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    """Return the age of a value such as 30d."""
    age = duration(value, "mhdw", allow_zero=True)
    if age is None:
        raise click.BadParameter("must be a number and m, h, d or w, such as 30d; 100 years at most")
    return age


def time_option(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Return the time of a value: `2h` ago, a date in UTC, or RFC 3339 with its offset."""
    if value is None:
        return None
    if (age := duration(value, "mhdw", allow_zero=True)) is not None:
        return datetime.now(UTC) - age
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        value += "T00:00:00Z"
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    # without an offset it is the local time of an unknown machine
    if time is None or time.tzinfo is None:
        raise click.BadParameter("must be like 90m, 2h, 3d or 1w ago, 2026-11-21, or 2026-11-21T22:38:33Z")
    return time


def lifetime_option(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> timedelta | None:
    """Return the time to live of a value such as 90d."""
    if value is None:
        return None
    lifetime = duration(value, "hdwy")
    if lifetime is None:
        raise click.BadParameter("must be a number and h, d, w or y, such as 90d; 100 years at most")
    return lifetime


def budget_option(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a value such as 5m."""
    if value is None:
        return None
    budget = duration(value, "smh")
    if budget is None:
        raise click.BadParameter("must be a whole number and s, m or h, such as 5m; 100 years at most")
    return budget.total_seconds()


def size_option(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a value such as 500kB."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(kB|MB|GB)", value, re.ASCII | re.IGNORECASE)
    size = round(float(found[1]) * _BYTES[found[2].lower()]) if found else 0
    if not size:
        raise click.BadParameter("must be a number and kB, MB or GB, such as 500kB or 2MB")
    return size


class Percent(click.ParamType[float]):
    """A share such as `10%` or `0.1`; returns a number between 0 and 1."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value))
        share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
        if share > 1:
            self.fail(f"{value!r} is not a share; write 10% or 0.1", param, ctx)
        return share


class Bound(click.ParamType[tuple[str, float]]):
    """A bound such as `errors>1%`; returns its name and the share."""

    name = "bound"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name and the share."""
        name, separator, share = str(value).partition(">")
        if not separator or name.strip() not in _BOUNDS:
            self.fail(f"{value!r} is not a bound; write errors>1% or disagreement>5%", param, ctx)
        return name.strip(), Percent().convert(share.strip(), param, ctx)
