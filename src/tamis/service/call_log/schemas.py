"""Every parameter and body of the call log's routes, defined once. Knows no route and no store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

_Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class CallFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls are asked for; what is left out is not asked for."""

    since: (
        Annotated[datetime, Meta(tz=True, description="Calls at this moment and later (RFC 3339).")]
        | UnsetType
    ) = UNSET
    until: (
        Annotated[datetime, Meta(tz=True, description="Calls before this moment (RFC 3339).")] | UnsetType
    ) = UNSET
    label: Annotated[str, Meta(description="Calls that were answered with this label.")] | UnsetType = UNSET
    contains: (
        Annotated[str, Meta(description="Calls whose text holds this; the case of ASCII letters is ignored.")]
        | UnsetType
    ) = UNSET
    model: Annotated[str, Meta(description="Calls that the model of this digest answered.")] | UnsetType = (
        UNSET
    )
    caller: (
        Annotated[str, Meta(description="Calls of this caller; for keys with the admin scope only.")]
        | UnsetType
    ) = UNSET


class LogParameters(CallFilter, frozen=True, forbid_unknown_fields=True):
    """What `GET /log` takes."""

    limit: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=1_000_000,
                description="Most calls to give. Left out: 100 as JSON, all of them as CSV or NDJSON.",
            ),
        ]
        | UnsetType
    ) = UNSET
    cursor: (
        Annotated[
            str,
            Meta(
                description="The `next_cursor` of an earlier answer: go on behind it.",
                extra_json_schema={"format": "cursor"},
            ),
        ]
        | UnsetType
    ) = UNSET
    order: Annotated[Literal["newest", "oldest"], Meta(description="Which calls come first.")] = "newest"
    format: (
        Annotated[
            Literal["json", "csv", "ndjson"],
            Meta(description="The form of the answer; left out, the header `accept` decides."),
        ]
        | UnsetType
    ) = UNSET


class RecentCall(Struct, frozen=True):
    """One text that was sent in the current hour."""

    index: Annotated[int, Meta(ge=0, description="Its place in this list.")]
    input: str
    called_at: _Time


class LoggedCall(Struct, frozen=True):
    """One text of one call, and what was answered."""

    id: Annotated[str, Meta(description="A version-1 UUID; no two calls share one.")]
    called_at: _Time
    caller: str
    input: str
    label: str
    score: Annotated[float, Meta(description="The probability of `label`.")]
    model: Annotated[str, Meta(description="The digest of the model that answered.")]
    from_cache: bool


class LogPage(Struct, frozen=True):
    """Some calls, and where the next ones begin."""

    calls: list[LoggedCall]
    next_cursor: Annotated[str | None, Meta(description="What to ask for next; null at the end only.")]


class HourlyCount(Struct, frozen=True):
    """How many calls one hour saw with one label."""

    hour: Annotated[datetime, Meta(tz=True, description="The start of the hour, in UTC.")]
    label: str
    count: Annotated[int, Meta(ge=1)]


class LogSummary(Struct, frozen=True):
    """Calls counted by hour and label; an hour without calls is left out."""

    counts: list[HourlyCount]
