"""What the routes share: who may call them, how much a request may contain, which errors they document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer

from tamis.service.access import PREDICT, Access
from tamis.service.api.bodies import ErrorResponse
from tamis.service.callers import Callers
from tamis.service.classify import no_observation

Responses = dict[int | str, dict[str, Any]]
"""As FastAPI takes them: what a route may answer, by status."""


@dataclass(frozen=True)
class RequestLimits:
    """How much one request may contain."""

    max_body_bytes: int
    max_text_chars: int
    max_texts: int


_BEARER = HTTPBearer(
    scheme_name="bearer",
    description="An API key of this service, created by its operator with `tamis keys create`.",
    auto_error=False,
)
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", description="The same key.", auto_error=False)


@dataclass(frozen=True)
class Requires:
    """The dependency by which a route names its access.

    `StrictRoute` checks it before the body is read; FastAPI documents the two headers that carry a key.
    """

    access: Access

    def __call__(self, bearer: object = Security(_BEARER), header: object = Security(_HEADER)) -> None:
        """Do nothing: the caller is identified already."""


_DESCRIPTIONS = {
    400: "The body or the query cannot be read, or the header `host` names another host.",
    401: "There is no key, or it is not valid.",
    403: "The key lacks a scope for this, or a page of another site sent the request.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as plain JSON.",
    422: "A field is missing, unknown, of the wrong type or too long.",
    429: "The caller has sent too many texts.",
    431: "The request line and headers, or what frames the body, are too large.",
    500: "The service failed; the details are in its log.",
    501: "The body has a transfer coding other than `chunked`.",
    503: "The service cannot do this now; the header `retry-after` says when to try again.",
}
_RATE_HEADERS = {
    "RateLimit-Policy": "How many texts may be sent at once (q), and in how many seconds they come back (w).",
    "RateLimit": "How many texts may be sent now (r), and in how many seconds all come back (t).",
}
_RETRY = {"Retry-After": "After how many seconds the same request would be accepted."}
_CHALLENGE = {"WWW-Authenticate": "What is required, in the form of RFC 6750."}


def errors(*statuses: int) -> Responses:
    """Return the documentation of error responses, for a route's `responses`."""
    return {status: _error(status) for status in statuses}


@dataclass(frozen=True)
class ApiContext:
    """What every route of one application needs."""

    callers: Callers
    limits: RequestLimits
    requires_keys: bool
    is_rate_limited: bool
    observe_read: Callable[[float], None] = no_observation
    """Called with the seconds that receiving and parsing a valid body took."""

    def documented_errors(self, access: Access) -> Responses:
        """Return the errors of every route, and those of this access with this service's settings."""
        found = errors(400, 408, 431, 500, 501)
        found[503] = _error(503, _RETRY)
        if self.requires_keys and not access.is_open:
            found[401] = _error(401, _CHALLENGE)
            if access.scopes:
                found[403] = _error(403, _CHALLENGE)
                found[403]["description"] = f"The key lacks a scope: {' or '.join(sorted(access.scopes))}."
        if self.is_rate_limited and access == PREDICT:
            found[200] = {"headers": _headers(_RATE_HEADERS)}
            found[429] = _error(429, _RETRY | _RATE_HEADERS)
        return found


def _error(status: int, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    documented: dict[str, Any] = {"model": ErrorResponse, "description": _DESCRIPTIONS[status]}
    return documented | ({"headers": _headers(headers)} if headers else {})


def _headers(meanings: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
        for name, meaning in meanings.items()
    }
