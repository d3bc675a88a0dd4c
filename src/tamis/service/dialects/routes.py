"""The routes of dialects: FastAPI routes like those of `api/`, with the dialect's bodies and errors.

    POST to a classifying route ─► DialectFastPath, by path ─┐
    any other request ───────────► FastAPI's router ─────────┴► DialectRoute ┬► decode, classify, encode
                                                                             └► no body: FastAPI's handler

FastAPI documents the routes. Bodies are validated here: FastAPI passes a body on as raw bytes unless its
content type is JSON, and its own validation takes longer than the whole classification.
"""

# No `from __future__ import annotations`: FastAPI reads the local body models of the endpoints.
import re
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Annotated, Any, ClassVar, get_type_hints

from fastapi import APIRouter, Body, Depends, Path, Request
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.service.api.application import Application
from tamis.service.api.errors import response_to
from tamis.service.api.predictions import refuse_cross_site
from tamis.service.api.route import DESCRIPTIONS, ApiContext, Requires, Responses, StrictRoute, described_415
from tamis.service.bodies import ErrorEnvelope
from tamis.service.dialects.base import Dialect, DialectRequest, DialectService
from tamis.service.dialects.bodies import struct_of, validated
from tamis.service.request_body import BODY_SECONDS, HEADERS, check_query, receive_body
from tamis.service.responses import STATUS_BY_CODE, ErrorResponse
from tamis.service.security.client_identity import ANY_KEY, CALLER, PREDICT, Access
from tamis.service.telemetry.middleware import DIALECT

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_OPTIONAL_STATUSES = (401, 429)
"""Statuses that only a service with required keys or a rate limit returns."""
_CONNECTION_STATUSES = (408, 431, 501)
"""Statuses that are sent before the route is known, so always in the native envelope."""

# bounded, because callers choose the model's name in a path
_MAX_CACHED_PATHS = 256


class _ModelName(Convertor[str]):
    """A model's name in a path: without a slash, and without a colon, which precedes `predict`."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", _ModelName())


class DialectRoute(StrictRoute):
    """A route of one dialect."""

    dialect: ClassVar[Dialect]
    service: ClassVar[DialectService]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any):
        self._body_model: Any = get_type_hints(endpoint).get("body")
        if self._body_model is not None:
            struct_of(self._body_model)  # cached now, so that the first request does not wait for it
        super().__init__(path, endpoint, **options)

    @classmethod
    def bound_to(cls, context: ApiContext, dialect: Dialect, service: DialectService) -> "type[DialectRoute]":
        """Return the route class of one dialect in one application; FastAPI constructs routes itself."""
        return type(
            f"Bound{cls.__name__}", (cls,), {"context": context, "dialect": dialect, "service": service}
        )

    def documented_errors(self) -> Responses:
        """Return the documentation of the native errors with the dialect's statuses and envelope."""
        native, dialect = super().documented_errors(), self.dialect
        descriptions = DESCRIPTIONS | {415: described_415(dialect.formats)}
        found: Responses = {
            status: native[status] for status in (200, *_CONNECTION_STATUSES) if status in native
        }
        for code, status in STATUS_BY_CODE.items():
            if status not in _CONNECTION_STATUSES and (status in native or status not in _OPTIONAL_STATUSES):
                documented = {"description": descriptions[status]} | native.get(status, {})
                # a path that matches no route, such as one with a model `a:b`, gets the native envelope
                model: Any = dialect.error_model | ErrorEnvelope if status == 404 else dialect.error_model
                found.setdefault(dialect.error_status(code, status), documented | {"model": model})
        return found

    def encode_error(self, error: ErrorResponse) -> Response:
        """Return an error in the dialect's envelope."""
        return self.dialect.encode_error(error)

    def get_route_handler(self) -> Handler:
        """Return `respond` for a route with a body, otherwise FastAPI's handler."""
        handle, has_body = super().get_route_handler(), self.body_field is not None

        async def handle_request(request: Request) -> Response:
            if has_body:
                return await self.respond(request.scope, request.receive)
            request.scope[DIALECT] = self.dialect.name  # for metrics
            return await handle(request)

        return handle_request

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Return the response to a request with a body."""
        scope[DIALECT] = self.dialect.name
        try:
            scope[CALLER] = self.context.callers.identify(scope, self.access)
            if scope["query_string"]:
                check_query(scope["query_string"])
            began, headers = perf_counter(), scope[HEADERS]
            if b"content-type" not in headers:  # a page of any site can send this without a preflight request
                refuse_cross_site(Request(scope))
            received = await receive_body(headers, receive, self.context.limits.max_body_bytes)
            # valid, because tritonclient lists the repository with an empty body
            document, binary = self.dialect.parse(headers, received) if received else ({}, b"")
            body = validated(self._body_model, document)
            scope[BODY_SECONDS] = perf_counter() - began
            decoded = DialectRequest(
                self._body_model, body, scope["path_params"], headers, self.context.limits, binary
            )
            return await self.respond_to(decoded, scope)
        except Exception as error:  # noqa: BLE001 - the outermost handler: every request gets a response
            return self.encode_error(response_to(error, scope))

    async def respond_to(self, decoded: DialectRequest, scope: Scope) -> Response:
        """Return the response to a request whose body is valid."""
        response: Response = await self.endpoint(body=decoded.body, request=Request(scope))
        return response


class ClassifyRoute(DialectRoute):
    """A route that classifies the texts of its body; its endpoint only documents the body."""

    async def respond_to(self, decoded: DialectRequest, scope: Scope) -> Response:
        """Return the predictions."""
        return await self.service.respond(self.dialect, decoded, scope[CALLER])


class DialectRoutes:
    """Declares the routes of one dialect, except those that another dialect has already declared."""

    def __init__(self, app: Application, dialect: Dialect, service: DialectService):
        self.service, self._app, self._dialect = service, app, dialect
        self._route_class = DialectRoute.bound_to(app.context, dialect, service)
        self._classify_class = ClassifyRoute.bound_to(app.context, dialect, service)
        self._router = APIRouter(generate_unique_id_function=lambda route: route.name)

    def classify(
        self, path: str, body: type[BaseModel], response: Any, *, summary: str, example: object
    ) -> None:
        """Declare a route that classifies the texts in its body."""
        documented = Body(openapi_examples={"texts": {"value": example}})

        async def classify(body: BaseModel) -> None:
            """Document the body; see `ClassifyRoute`."""

        # FastAPI reads the model from the annotation, which is known only here
        classify.__annotations__["body"] = Annotated[body, documented]
        options = {"summary": summary, "access": PREDICT, "route_class_override": self._classify_class}
        self.post(path, response, **options)(classify)

    def get(self, path: str, response: Any, **options: Any) -> Decorator:
        """Return the decorator that declares a GET route."""
        return self._declare("get", path, response, **options)

    def post(self, path: str, response: Any, **options: Any) -> Decorator:
        """Return the decorator that declares a POST route; its endpoint takes the body as `body`."""
        return self._declare("post", path, response, **options)

    def _declare(
        self, method: str, path: str, response: Any, *, access: Access = ANY_KEY, **options: Any
    ) -> Decorator:
        parameters = [Depends(_PARAMETERS[name]) for name in _PARAMETERS if f"{{{name}" in path]
        path_words = re.sub("[^a-z0-9]+", "_", path.replace(":model", "")).strip("_")

        def declare(endpoint: Callable[..., Any]) -> Callable[..., Any]:
            is_declared = any(
                isinstance(route, StrictRoute) and route.path == path and method.upper() in route.methods
                for route in self._app.routes
            )
            if not is_declared:
                self._router.add_api_route(
                    path,
                    endpoint,
                    methods=[method.upper()],
                    response_model=response,
                    tags=[self._dialect.title],
                    name=f"{self._dialect.name}_{method}_{path_words}",
                    dependencies=[Depends(Requires(access)), *parameters],
                    **{"route_class_override": self._route_class} | options,
                )
                # not by `include_router`, which would build every route a second time
                self._app.router.routes.append(self._router.routes.pop())
            return endpoint

        return declare


class DialectFastPath:
    """Middleware that finds the route of a classifying request in a cache of paths, without the router.

    The router tries every route in turn, so that such a request takes twice as long (docs/lab-notes.md). All
    other requests are passed to `app`.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], *, is_on: bool):
        self._app = app
        found = [one for one in routes if is_on and isinstance(one, ClassifyRoute)]
        self._by_path = {one.path: one for one in found if not one.param_convertors}
        self._by_pattern = [one for one in found if one.param_convertors]
        self._find = lru_cache(_MAX_CACHED_PATHS)(self._match)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and scope["method"] == "POST":
            route, parameters = self._find(scope["path"])
            if route is not None:
                # as the router sets them, for metrics, traces and errors
                scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, parameters
                response = await route.respond(scope, receive)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _match(self, path: str) -> tuple[ClassifyRoute | None, dict[str, str]]:
        """Return the classifying route of a path, if there is one, and the path's parameters."""
        if path in self._by_path:
            return self._by_path[path], {}
        for route in self._by_pattern:
            if (found := route.path_regex.match(path)) is not None:
                return route, found.groupdict()
        return None, {}


def add_dialects(app: Application, dialects: Sequence[Dialect], service: DialectService) -> None:
    """Add the routes of dialects to an application, and their tags to its documentation."""
    for dialect in dialects:
        dialect.add_routes(DialectRoutes(app, dialect, service))
        tag = {"name": dialect.title, "description": dialect.description}
        app.openapi_tags = [*(app.openapi_tags or ()), tag]


_MODEL_DESCRIPTION = "The model: `name`, `name@version` or `name@alias`."


def _model_parameter(
    model: Annotated[str, Path(description=_MODEL_DESCRIPTION, pattern="^[^/:]+$")],
) -> None:
    """Document the parameter."""


def _version_parameter(version: Annotated[str, Path(description="The version of the model.")]) -> None:
    """Document the parameter."""


# endpoints read parameters from the request; these dependencies only document them
_PARAMETERS: dict[str, Callable[..., None]] = {"model": _model_parameter, "version": _version_parameter}
