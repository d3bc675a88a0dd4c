"""What the OpenAPI document says of the call log's routes: made from the schemas, with examples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from tamis.records import CallRecord
from tamis.service.call_log.forms import CallsCsv, CallsJson, CallsNdjson, Form, RecentJson
from tamis.service.call_log.schemas import (
    CallFilter,
    HourlyCount,
    LoggedCall,
    LogPage,
    LogParameters,
    LogSummary,
    RecentCall,
)
from tamis.service.openapi_parts import Json, head, ref, responses
from tamis.storage.keys import first_id_at

LOG_TAG = {"name": "call log", "description": "Your own calls: each text is logged once."}
LOG_BODIES = (RecentCall, LoggedCall, LogPage, HourlyCount, LogSummary)

_CALL = CallRecord(
    id=first_id_at(datetime(2026, 11, 21, 22, 38, 33, 209_512, UTC))[:8] + bytes.fromhex("8f3c5b7a6d2e4f10"),
    caller="192.0.2.7",
    text="WIN a FREE phone now, text CLAIM to 80080",
    label="spam",
    score=0.97,
    model="3f2a" * 16,
    from_cache=False,
)
_HOUR = datetime(2026, 11, 21, 22, tzinfo=UTC)
_EXAMPLES = {
    "since": "2026-11-21T22:00:00Z",
    "until": "2026-11-22T00:00:00+01:00",
    "label": "spam",
    "contains": "free phone",
    "model": _CALL.model,
    "limit": 50,
}
_LOG_TEXT = (
    "Every caller reads their own calls; a key with the admin scope reads everybody's, or with `caller` "
    "those of one. JSON comes page by page: ask again with `cursor` set to `next_cursor` until that is "
    "null; a page may hold fewer calls than `limit` while more follow. CSV and NDJSON are streamed in full, "
    "or up to `limit`. In CSV, a cell that a spreadsheet could take for a formula has an apostrophe in "
    "front; NDJSON has every text as it was sent."
)
_RECENT_TEXT = "Your calls of the current UTC hour in order of time, streamed."
_UNAVAILABLE = (422, 503)


def log_paths() -> Json:
    """Return the paths of the call log."""
    recent = {"type": "array", "items": ref("RecentCall")}
    summary = LogSummary([HourlyCount(_HOUR, "ham", 41), HourlyCount(_HOUR, "spam", 7)])
    log_answers = responses(ref("LogPage"), _example(CallsJson()), (400, 403, *_UNAVAILABLE))
    log_answers["200"]["content"] |= {
        form.media_type.partition(";")[0]: {
            "schema": {"type": "string"},
            "example": (form.head + form.rows([_CALL])).decode(),
        }
        for form in (CallsCsv(), CallsNdjson())
    }
    return {
        "/recent_log": {
            "get": {
                **head("call log", "recent_log", "Your calls of this hour"),
                "description": _RECENT_TEXT,
                "responses": responses(recent, _example(RecentJson()), (400, *_UNAVAILABLE)),
            }
        },
        "/log": {
            "get": {
                **head("call log", "log", "Search your calls"),
                "description": _LOG_TEXT,
                "parameters": _parameters(LogParameters),
                "responses": log_answers,
            }
        },
        "/log/summary": {
            "get": {
                **head("call log", "log_summary", "Count your calls by hour and label"),
                "parameters": _parameters(CallFilter),
                "responses": responses(ref("LogSummary"), summary, (400, 403, *_UNAVAILABLE)),
            }
        },
    }


def _parameters(kind: type[msgspec.Struct]) -> list[Json]:
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return [
        {"name": name, "in": "query", "schema": schema}
        | ({"description": schema.pop("description")} if "description" in schema else {})
        | ({"example": _EXAMPLES[name]} if name in _EXAMPLES else {})
        for name, schema in properties.items()
    ]


def _example(form: Form) -> Any:
    return msgspec.json.decode(form.head + form.rows([_CALL]) + form.tail(None))
