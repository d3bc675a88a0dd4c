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
"""Our code for an error type of pydantic; every other one is `wrong_type`."""

_log = logging.getLogger(__name__)


def response_to(error: Exception, scope: Scope) -> ErrorResponse:
    """Return the response to whatever a route raised; never with the caller's input or our internals."""
    if isinstance(error, RequestValidationError):
        return rejection_response(validation_error(error.errors()))
    if isinstance(error, InputError):
        return rejection_response(error)
    if isinstance(error, OverloadedError):
        return overloaded_response(error)
    if isinstance(error, StoreError):  # its message names the store's address: for our log only
        _log.warning("store unavailable for %s: %s", route_path(scope), error)
        return error_response(
            "store_unavailable", "the call log cannot be read now; try again", [(b"retry-after", b"1")]
        )
    _log_unhandled(error, scope)
    return error_response("internal_error", "the service failed on this request; it has been logged")


def validation_error(errors: Sequence[Any]) -> InputError:
    """Return our error for the first that pydantic found; it names the field and never repeats its value."""
    # a misspelt name is the reason for a missing one: name what was sent
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
        "wrong_type": f"{name}: {_lower_first(error['msg'])}",
    }
    return InputError(code, messages[code], field=name.strip("`"))


def route_path(scope: Scope) -> str:
    """Return the path template of the matched route, or the path of the fast path's routes."""
    return str(getattr(scope.get("route"), "path_format", scope["path"]))


def _location(parts: Sequence[str | int]) -> str:
    """Return where in the body or query an error is: `texts[3]`."""
    if not parts:
        return "the body"
    shown = shown_name(str(parts[0]))
    indices = "".join(f"[{part}]" for part in parts[1:] if isinstance(part, int))
    return f"{shown[:-1]}{indices}`" if indices and shown.endswith("`") else shown


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _log_unhandled(error: Exception, scope: Scope) -> None:
    """Log the error's type and the lines it passed; its message might contain the caller's text."""
    fields = {
        "request_id": scope.get(REQUEST_ID, b"").decode("ascii"),
        "method": scope["method"],
        "route": route_path(scope),
        **error_fields(error),
    }
    _log.error("unhandled exception", extra={FIELDS: fields})
