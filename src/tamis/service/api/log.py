"""The routes of the call log: `/recent_log`, `/log`, `/log/summary` and `DELETE /log`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from tamis.errors import InputError
from tamis.service.api.route import Requires, errors
from tamis.service.bodies import DeletionResponse, LogPageResponse, LogSummaryResponse, RecentCallResponse
from tamis.service.call_log.formats import CALL_FORMATS, LogFormats, RecentCallsJson, summary_document
from tamis.service.call_log.readers import SEARCH_SECONDS, LogReaders, unless_abandoned
from tamis.service.call_log.stream import LogStream
from tamis.service.responses import json_response
from tamis.service.security.client_identity import CALLER, OWN_LOG, Caller
from tamis.service.security.rate_limit import RateLimiter
from tamis.storage import CallLog, LogQuery, Store
from tamis.storage.query import Readable

JSON_LIMIT = 100
"""Default number of calls in a JSON response."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+ -]\d\d:\d\d)")
_FORMAT_BY_TYPE = {"text/csv": "csv", "application/x-ndjson": "ndjson", "application/json": "json"}
_LOG_TEXT = (
    "Every caller reads their own calls; a key with the admin scope reads everyone's, or with `caller` "
    "those of one. JSON comes page by page: ask again with `cursor` set to `next_cursor` until that is "
    "null; a page may contain fewer calls than `limit` while more follow. CSV and NDJSON are streamed "
    "completely, or up to `limit`. In CSV, a cell that a spreadsheet could take for a formula has an "
    "apostrophe in front; NDJSON has every text as it was sent."
)


def _moment(value: object) -> object:
    """Accept RFC 3339 only; an unescaped `+` in a query arrives as a space."""
    # pydantic alone would also accept numbers, as seconds since 1970
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("expected a time with its offset, such as 2026-11-21T22:38:33Z")
    return f"{value[:10]}T{value[11:].replace(' ', '+')}"


_Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
# an absent parameter is None, but a query cannot send null: the schema must not offer it
_Text = str | SkipJsonSchema[None]


def _require_admin_for(named: str | None, caller: Caller, verb: str) -> None:
    """Raise InputError if a caller without the admin scope names another caller."""
    if named is not None and not caller.is_admin:
        message = f"`caller` is for keys with the admin scope; leave it out to {verb} your own calls"
        raise InputError("not_admin", message, field="caller")


class NoParameters(BaseModel):
    """The query of a route without parameters: an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid")


class CallFilter(NoParameters):
    """Which calls to read; a parameter that is left out does not restrict them."""

    since: Annotated[
        _Moment | SkipJsonSchema[None],
        Field(description="Calls at this time and later (RFC 3339).", examples=["2026-11-21T22:00:00Z"]),
    ] = None
    until: Annotated[
        _Moment | SkipJsonSchema[None],
        Field(description="Calls before this time (RFC 3339).", examples=["2026-11-22T00:00:00+01:00"]),
    ] = None
    label: Annotated[_Text, Field(description="Calls predicted as this label.")] = None
    contains: Annotated[
        _Text, Field(description="Calls whose text contains this; the case of ASCII letters is ignored.")
    ] = None
    model: Annotated[_Text, Field(description="Calls that the model of this digest answered.")] = None
    model_name: Annotated[_Text, Field(description="Calls that a model of this name answered.")] = None
    model_version: Annotated[_Text, Field(description="Calls that this version of a model answered.")] = None
    caller: Annotated[
        _Text, Field(description="Calls of this caller; for keys with the admin scope only.")
    ] = None

    def query(self, caller: Caller, *, newest_first: bool = False) -> LogQuery:
        """Return the store's query for the caller's own calls, for an admin for all calls."""
        given = self.model_dump(include=set(CallFilter.model_fields), exclude_none=True)
        _require_admin_for(self.caller, caller, "read")
        if not caller.is_admin:
            caller.require_own_rows()
            given["caller"] = caller.name
        return LogQuery(**given, newest_first=newest_first)


class LogParameters(CallFilter):
    """The query parameters of `GET /log`."""

    limit: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | SkipJsonSchema[None],
        Field(description="Maximum number of calls. Default: 100 as JSON, otherwise all."),
    ] = None
    cursor: Annotated[
        _Text,
        Field(description="The `next_cursor` of the page before.", json_schema_extra={"format": "cursor"}),
    ] = None
    order: Annotated[Literal["newest", "oldest"], Field(description="Which calls come first.")] = "newest"
    format: Annotated[
        Literal["json", "csv", "ndjson"] | SkipJsonSchema[None],
        Field(description="The format of the response; by default the header `accept` decides."),
    ] = None


def add_log_routes(
    router: APIRouter, call_log: CallLog, this_hour: Callable[[], datetime], readers: LogReaders
) -> None:
    """Add the routes of the call log; `this_hour` returns the UTC hour in which a call is logged now."""
    options: dict[str, Any] = {"tags": ["call log"], "dependencies": [Depends(Requires(OWN_LOG))]}

    @router.get(
        "/recent_log",
        response_model=list[RecentCallResponse],
        summary="Your calls of this hour",
        responses=errors(400, 403, 422, 429, 503),
        **options,
    )
    async def recent_log(parameters: Annotated[NoParameters, Query()], request: Request) -> Response:
        """Your calls of the current UTC hour in order of time, streamed; admins also get only their own."""
        request.scope[CALLER].require_own_rows()
        hour, caller = this_hour(), request.scope[CALLER].name
        query = LogQuery(caller=caller, since=hour, until=hour + timedelta(hours=1))
        return await LogStream(call_log, query, RecentCallsJson(), read=readers.begin(caller)).started(
            request.receive
        )

    @router.get(
        "/log",
        response_model=LogPageResponse,
        summary="Search your calls",
        description=_LOG_TEXT,
        responses={**errors(400, 403, 422, 429, 503), 200: {"content": OTHER_FORMATS}},
        **options,
    )
    async def log(parameters: Annotated[LogParameters, Query()], request: Request) -> Response:
        query = parameters.query(request.scope[CALLER], newest_first=parameters.order == "newest")
        return await streamed(call_log, query, parameters, request, formats=CALL_FORMATS, readers=readers)

    @router.get(
        "/log/summary",
        response_model=LogSummaryResponse,
        summary="Count your calls by hour and label",
        responses=errors(400, 403, 422, 429, 503),
        **options,
    )
    async def log_summary(parameters: Annotated[CallFilter, Query()], request: Request) -> Response:
        query = parameters.query(request.scope[CALLER])
        read = readers.begin(request.scope[CALLER].name)
        try:  # limited in time, because a count has no pages: it reads every matching row at once
            counts = await unless_abandoned(call_log.summary(query), request.receive, seconds=SEARCH_SECONDS)
        finally:
            read.end()
        return json_response(summary_document(counts))


async def streamed(
    log: Readable[Any],
    query: LogQuery,
    parameters: LogParameters,
    request: Request,
    *,
    formats: LogFormats,
    readers: LogReaders,
) -> Response:
    """Return the response to a search of a log, its first page fetched."""
    format = formats[parameters.format or _accepted(request.headers.get("accept", ""))]()
    # a JSON page has a cursor for the rest; CSV and NDJSON would end without a sign that rows are missing
    limit = parameters.limit if parameters.limit is not None or format.is_whole else JSON_LIMIT
    read = readers.begin(request.scope[CALLER].name)
    stream = LogStream(log, query, format, read=read, limit=limit)
    return await stream.started(request.receive, parameters.cursor)


OTHER_FORMATS: dict[str, Any] = {
    media_type: {"schema": {"type": "string"}} for media_type in ("text/csv", "application/x-ndjson")
}


def _accepted(header: str) -> str:
    """Return the format that an `accept` header prefers, JSON by default."""
    # stable: of equal weights the first one wins, as clients expect
    ranked = sorted((_weighed(entry) for entry in header.split(",")), key=lambda one: -one[1])
    return next(
        (_FORMAT_BY_TYPE[kind] for kind, weight in ranked if kind in _FORMAT_BY_TYPE and weight > 0), "json"
    )


def _weighed(entry: str) -> tuple[str, float]:
    """Return a media type of an `accept` header and its weight."""
    kind, *parameters = (part.strip().lower() for part in entry.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    # by the grammar of RFC 9110; `float` alone would accept `inf` and `1e9`
    return kind, float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0


_DELETE_TEXT = (
    "Deletes all of your own calls and feedback, for good; with `caller`, a key with the admin scope deletes "
    "those of another caller. The prediction cache has keyed digests and scores, neither texts nor callers: "
    "its entries expire. Backups and exported files are not reached. A deletion counts as one text for the "
    "rate limit."
)


class DeletionParameters(NoParameters):
    """The query parameters of `DELETE /log`."""

    caller: Annotated[
        _Text, Field(description="Delete the rows of this caller; for keys with the admin scope only.")
    ] = None

    def owner(self, caller: Caller) -> str:
        """Return the caller whose rows to delete: the requesting one unless an admin names another."""
        _require_admin_for(self.caller, caller, "delete")
        if self.caller is None:  # also for an admin: one request must not delete everyone's rows
            caller.require_own_rows()
            return caller.name
        return self.caller


def add_deletion_route(
    router: APIRouter, store: Store, readers: LogReaders, limiter: RateLimiter | None
) -> None:
    """Add `DELETE /log` to the application's router."""

    @router.delete(
        "/log",
        response_model=DeletionResponse,
        summary="Delete your calls and feedback",
        description=_DELETE_TEXT,
        responses=errors(400, 403, 422, 429, 503),
        tags=["call log"],
        dependencies=[Depends(Requires(OWN_LOG))],
    )
    async def delete_log(parameters: Annotated[DeletionParameters, Query()], request: Request) -> Response:
        caller = request.scope[CALLER]
        owner = parameters.owner(caller)
        headers = [] if limiter is None else limiter.consume(caller, texts=1).headers
        read = readers.begin(caller.name)  # each deletion empties the WAL: bounded like reads
        try:
            calls = await store.log.delete_caller(owner)
            feedback = await store.feedback.delete_caller(owner)
        finally:
            read.end()
        return json_response({"caller": owner, "calls": calls, "feedback": feedback}, headers=headers)
