"""From a query string to what is asked of the log, or an InputError that names the parameter.

Knows who may ask for what; knows no store's SQL and no form's bytes.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import UNSET
from starlette.types import Scope

from tamis.errors import InputError
from tamis.service.call_log.schemas import CallFilter, LogParameters
from tamis.service.callers import Caller
from tamis.service.requests import query_values
from tamis.storage import CallQuery

Parameters = TypeVar("Parameters", bound=CallFilter)

_FILTERS = ("since", "until", "label", "contains", "model", "caller")
_MOMENT = "a moment with its offset, such as 2026-11-21T22:38:33Z"
_EXPECTED = {
    "since": _MOMENT,
    "until": _MOMENT,
    "limit": "a whole number from 1 to 1000000",
    "order": "newest or oldest",
    "format": "json, csv or ndjson",
}
_PLACE = re.compile(r"`\$\.(\w+)`$")
_UNQUOTED_PLUS = re.compile(r" (?=\d\d:\d\d$)")
_FORMAT_BY_TYPE = {"text/csv": "csv", "application/x-ndjson": "ndjson", "application/json": "json"}


def read_parameters(scope: Scope, kind: type[Parameters]) -> Parameters:
    """Read the query of a request as `kind`."""
    values: dict[str, object] = dict(query_values(scope["query_string"], frozenset(kind.__struct_fields__)))
    for name in ("since", "until"):
        if name in values:  # a `+` that was not quoted arrives as a blank; nothing else could be meant
            values[name] = _UNQUOTED_PLUS.sub("+", str(values[name]))
    limit = values.get("limit", UNSET)
    if isinstance(limit, str) and limit.isascii() and limit.isdigit() and len(limit) < 10:
        values["limit"] = int(limit)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as wrong:
        place = _PLACE.search(str(wrong))
        assert place is not None, "every parameter has a name"
        name = place[1]
        raise InputError("wrong_type", f"`{name}` must be {_EXPECTED[name]}", field=name) from None


def call_query(wanted: CallFilter, caller: Caller, *, newest_first: bool = False) -> CallQuery:
    """Return the query for what `caller` wants: of their own calls, or as an admin of all."""
    given = {name: value for name in _FILTERS if (value := getattr(wanted, name)) is not UNSET}
    if caller.is_admin:
        return CallQuery(**given, newest_first=newest_first)
    if "caller" in given:
        message = "`caller` is for keys with the admin scope; leave it out to read your own calls"
        raise InputError("not_admin", message, field="caller")
    return CallQuery(**given, caller=caller.name, newest_first=newest_first)


def format_of(wanted: LogParameters, scope: Scope) -> str:
    """Return the name of the form: the parameter's, otherwise what `accept` likes best, JSON by default."""
    if wanted.format is not UNSET:
        return wanted.format
    accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    ranked = sorted(
        (_weighed(entry) for entry in accepted.decode("latin-1").split(",")), key=lambda one: -one[1]
    )
    return next(
        (_FORMAT_BY_TYPE[kind] for kind, weight in ranked if kind in _FORMAT_BY_TYPE and weight > 0), "json"
    )


def _weighed(entry: str) -> tuple[str, float]:
    """Return a media type of an `accept` header and its weight."""
    kind, *parameters = (part.strip().lower() for part in entry.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    return kind, float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0
