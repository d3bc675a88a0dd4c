"""The route class of the API: FastAPI's, with the caller and the request's bytes checked first.

    request ─► caller (401, 403) ─► query string ─► content type, size, JSON (400, 413, 415)
            ─► FastAPI: pydantic, dependencies, the endpoint (422, …) ─► errors in our envelope

FastAPI would read a body of any size before it identifies the caller, and accept invalid JSON such as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any, ClassVar

from fastapi import Security
from fastapi._compat import ModelField
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.utils import create_model_field
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tamis.events import Events
from tamis.service.api.errors import response_to
from tamis.service.bodies import ErrorEnvelope
from tamis.service.request_body import (
    BODY_SECONDS,
    HEADERS,
    check_content_type,
    check_query,
    parse_json,
    receive_body,
)
from tamis.service.responses import ErrorResponse
from tamis.service.security.client_identity import CALLER, OPEN, PREDICT, Access, ClientIdentifier

Responses = dict[int | str, dict[str, Any]]
"""The documentation of a route's responses by status, as FastAPI takes it."""


@dataclass(frozen=True)
class RequestLimits:
    """The maximum size of one request."""

    max_body_bytes: int
    max_text_chars: int
    max_texts: int


_BEARER = HTTPBearer(
    scheme_name="bearer",
    description="An API key of this service, created by its operator with `tamis keys create`.",
    auto_error=False,  # StrictRoute reports a missing key, with our envelope and code
)
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", description="The same key.", auto_error=False)


@dataclass(frozen=True)
class Requires:
    """The dependency that declares a route's access.

    `StrictRoute` checks it before the body is read; FastAPI documents the two headers that can carry a key.
    """

    access: Access

    def __call__(self, bearer: object = Security(_BEARER), header: object = Security(_HEADER)) -> None:
        """Do nothing: `StrictRoute` has identified the caller."""


def described_415(formats: str) -> str:
    """Return the description of the status 415 of a route that takes bodies of these formats."""
    return f"The body is not declared as {formats}, or has an unknown content encoding."


# by status, as OpenAPI has one description for all errors of a status
DESCRIPTIONS = {
    400: "The body or the query cannot be read, or the header `host` names another host.",
    401: "There is no key, or it is not valid.",
    403: "The key lacks a scope for this, or a page of another site sent the request.",
    404: "There is no such model, version or alias, or no such prediction of yours.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    405: "The path does not take this method.",
    415: described_415("JSON"),
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
    """The parts that every route of one application uses."""

    callers: ClientIdentifier
    limits: RequestLimits
    requires_keys: bool
    is_rate_limited: bool
    events: Events

    def documented_errors(self, access: Access) -> Responses:
        """Return the errors of every route, and those of this access with this service's settings."""
        found = errors(400, 408, 431, 500, 501)  # 408, 431 and 501 come from the connection, before a route
        found[503] = _error(503, _RETRY)
        if self.requires_keys and not access.is_open:
            found[401] = _error(401, _CHALLENGE)
            if access.scopes:
                found[403] = _error(403, _CHALLENGE)
                # the scopes of this route instead of the general text
                found[403]["description"] = f"The key lacks a scope: {' or '.join(sorted(access.scopes))}."
        if self.is_rate_limited and access == PREDICT:
            found[200] = {"headers": _headers(_RATE_HEADERS)}
            found[429] = _error(429, _RETRY | _RATE_HEADERS)
        return found


def _error(status: int, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    documented: dict[str, Any] = {"model": ErrorEnvelope, "description": DESCRIPTIONS[status]}
    return documented | ({"headers": _headers(headers)} if headers else {})


def _headers(descriptions: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {
            "description": description,
            "schema": {"type": "integer" if name == "Retry-After" else "string"},
        }
        for name, description in descriptions.items()
    }


def _without_shared_models(responses: Responses) -> tuple[dict[int | str, ModelField], Responses]:
    """Return the fields that document the responses with a class as model, and the responses without these.

    FastAPI would build a validator for each error of each route, 800 for 80 routes: half of the start-up.
    """
    shared = {status: _field(one["model"]) for status, one in responses.items() if _has_class(one)}
    rest = {
        status: {name: value for name, value in one.items() if name != "model" or status not in shared}
        for status, one in responses.items()
    }
    return shared, rest


def _has_class(response: dict[str, Any]) -> bool:
    # a union is left to FastAPI, which titles its schema after the route
    return isinstance(response.get("model"), type)


@cache
def _field(model: type[BaseModel]) -> ModelField:
    return create_model_field(model.__name__, model, mode="serialization")


class StrictRequest(Request):
    """A request with a body that has been received and parsed."""

    def __init__(self, request: Request, body: bytes, document: Any):
        super().__init__(request.scope, request.receive)
        self._received, self._document = body, document

    async def body(self) -> bytes:
        """Return the body, without a byte order mark."""
        return self._received

    async def json(self) -> Any:
        """Return the parsed body."""
        return self._document


class StrictRoute(APIRoute):
    """A route that checks the caller, the query and the body before FastAPI parses them.

    Every exception, whether of these checks, of pydantic or of the endpoint, becomes a response here.
    """

    context: ClassVar[ApiContext]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any):
        required = [one for one in options.get("dependencies") or () if isinstance(one.dependency, Requires)]
        self.access = required[0].dependency.access if required else OPEN
        # another route of this path takes these types; the 415 of this one names them, too
        documented_body = (options.get("openapi_extra") or {}).get("requestBody", {})
        self.line_types = [media_type.encode() for media_type in documented_body.get("content", {})]
        responses = self.documented_errors()
        for status, documented in (options.get("responses") or {}).items():
            responses[status] = responses.get(status, {}) | documented
        shared, options["responses"] = _without_shared_models(responses)
        # without required keys the documentation must not ask for one: Swagger would show a padlock
        if not self.context.requires_keys:
            given = options.get("dependencies") or ()
            options["dependencies"] = [one for one in given if one not in required]
        elif self.access.is_optional:
            options["openapi_extra"] = {"security": [{}]}  # OpenAPI for "none of the schemes is needed"
        super().__init__(path, endpoint, **options)
        self.response_fields |= shared
        self.methods: set[str] = self.methods or set()

    @classmethod
    def bound(cls, context: ApiContext) -> type[StrictRoute]:
        """Return the route class of one application."""
        # a subclass per application: FastAPI instantiates route classes itself, without our arguments
        return type("BoundRoute", (cls,), {"context": context})

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes a request; HEAD is answered as GET, without the body."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD" and "GET" in self.methods
        return super().matches({**scope, "method": "GET"} if is_head else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the router has matched."""
        # past starlette's check of the method, which HEAD would fail; responses leave out their body
        if scope["method"] == "HEAD" and "GET" in self.methods:
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler with the checks before it."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                request.scope[CALLER] = self.context.callers.identify(request.scope, self.access)
                check_query(request.scope["query_string"])
                return await handle(await self._received(request))
            except HTTPException:  # a page's file that does not exist: answered like an unknown path
                raise
            except Exception as error:  # noqa: BLE001 - the outermost handler: every request gets a response
                return self.encode_error(response_to(error, request.scope))

        return checked

    def documented_errors(self) -> Responses:
        """Return the documentation of the errors of every route of this class."""
        return self.context.documented_errors(self.access)

    def encode_error(self, error: ErrorResponse) -> Response:
        """Return the response to a failed request."""
        return error

    async def _received(self, request: Request) -> Request:
        if self.body_field is None:
            return request
        began = perf_counter()
        headers = request.scope[HEADERS]
        check_content_type(headers, of_other_routes=self.line_types)
        body = await receive_body(headers, request.receive, self.context.limits.max_body_bytes)
        document = parse_json(body)
        request.scope[BODY_SECONDS] = perf_counter() - began
        return StrictRequest(request, body, document)
