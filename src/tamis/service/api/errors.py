"""Errors as responses: one envelope, one table of statuses, for every route and for the fast path."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

from tamis.errors import InputError, OverloadedError, StoreError
from tamis.service.request_body import shown_name
from tamis.service.responses import ErrorResponse, error_response, overloaded_response, rejection_response
from tamis.service.telemetry.logging import FIELDS, error_fields
from tamis.service.telemetry.middleware import REQUEST_ID

_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "string_too_long": "text_too_long",
    "too_long": "too_many_texts",
    "too_short": "no_texts",
}
"""Our code for an error type of pydantic; the default is `wrong_type`."""

_log = logging.getLogger(__name__)


def response_to(error: Exception, scope: Scope) -> ErrorResponse:
    """Return the response to an exception of a route, without the caller's input or our internals."""
    if isinstance(error, RequestValidationError):
        return rejection_response(validation_error(error.errors()))
    if isinstance(error, InputError):
        return rejection_response(error)
    if isinstance(error, OverloadedError):
        return overloaded_response(error)
    if isinstance(error, StoreError):  # its message may contain the store's address: for our log only
        _log.warning("store unavailable for %s: %s", route_path(scope), error)
        return error_response(
            "store_unavailable", "the call log cannot be read now; try again", [(b"retry-after", b"1")]
        )
    # the error's type and traceback positions; its message might contain the caller's text
    fields = {
        "request_id": scope.get(REQUEST_ID, b"").decode("ascii"),
        "method": scope["method"],
        "route": route_path(scope),
        **error_fields(error),
    }
    _log.error("unhandled exception", extra={FIELDS: fields})
    return error_response("internal_error", "the service failed on this request; it has been logged")


def validation_error(errors: Sequence[Any]) -> InputError:
    """Return our error for the first one that pydantic found; it names the field, never its value."""
    # a misspelt field causes two errors, unknown and missing: the name that was sent helps more
    error = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    code = _CODES.get(error["type"], "wrong_type")
    name = _location(error["loc"][1:])
    context = error.get("ctx", {})
    messages = {
        "missing_field": f"missing field {name}",
        "unknown_field": f"unknown field {name}",
        "text_too_long": f"{name} is longer than {context.get('max_length')} characters",
        "too_many_texts": f"{name} contains more than {context.get('max_length')} texts",
        "no_texts": f"{name} must contain at least one text",
        "wrong_type": f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}",
    }
    return InputError(code, messages[code], field=name.strip("`"))


def route_path(scope: Scope) -> str:
    """Return the path template of the matched route, or the path of the fast path's routes."""
    return str(getattr(scope.get("route"), "path_format", scope["path"]))


def _location(parts: Sequence[str | int]) -> str:
    """Return the field of an error in the body or query, such as `texts[3]`."""
    if not parts:
        return "the body"
    shown = shown_name(str(parts[0]))
    indices = "".join(f"[{part}]" for part in parts[1:] if isinstance(part, int))
    return f"{shown[:-1]}{indices}`" if indices and shown.endswith("`") else shown
