"""The routes of a dialect: FastAPI routes like those of `api/`, with the dialect's bodies and errors.

    request ─► DialectFastPath, by path ──────┐
            └► the router: GET, other methods ┴► DialectRoute.respond ─► decode, classify, encode

FastAPI documents them. A route with a body validates it here: FastAPI would pass a body on as raw bytes
unless its content type is JSON, and its own steps take longer than the whole classification.
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

_BY_SETTING = (401, 429)
"""Statuses that only a service with required keys or a rate limit returns."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_FROM_CONNECTION = (408, 431, 501)
"""Statuses that are sent before a route is known, so always in the service's own envelope."""


class _ModelName(Convertor[str]):
    """A model's name in a path: no slash, and no colon, which separates `:predict` from it."""

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
            struct_of(self._body_model)  # cached at the start, so that the first request does not wait for it
        super().__init__(path, endpoint, **options)

    @classmethod
    def of(cls, context: ApiContext, dialect: Dialect, service: DialectService) -> "type[DialectRoute]":
        """Return the route class of one dialect in one application."""
        return type(
            f"Bound{cls.__name__}", (cls,), {"context": context, "dialect": dialect, "service": service}
        )

    def documented_errors(self) -> Responses:
        """Return the errors of the service with the dialect's statuses and envelope."""
        native, dialect = super().documented_errors(), self.dialect
        descriptions = DESCRIPTIONS | {415: described_415(dialect.formats)}
        found: Responses = {status: native[status] for status in (200, *_FROM_CONNECTION) if status in native}
        for code, status in STATUS_BY_CODE.items():
            if status not in _FROM_CONNECTION and (status in native or status not in _BY_SETTING):
                documented = {"description": descriptions[status]} | native.get(status, {})
                # a path that matches no route, such as one with a model `a:b`, gets the native error envelope
                model: Any = dialect.error_model | ErrorEnvelope if status == 404 else dialect.error_model
                found.setdefault(dialect.status(code, status), documented | {"model": model})
        return found

    def encode_error(self, error: ErrorResponse) -> Response:
        """Return an error in the dialect's envelope."""
        return self.dialect.encode_error(error)

    def get_route_handler(self) -> Handler:
        """Return the handler: FastAPI's for a route without a body, otherwise one that validates the body."""
        handle, has_body = super().get_route_handler(), self.body_field is not None

        async def answer(request: Request) -> Response:
            if has_body:
                return await self.respond(request.scope, request.receive)
            request.scope[DIALECT] = self.dialect.name  # for metrics
            return await handle(request)

        return answer

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Return the response to a request with a body."""
        scope[DIALECT] = self.dialect.name
        try:
            scope[CALLER] = self.context.callers.identify(scope, self.access)
            if scope["query_string"]:
                check_query(scope["query_string"])
            began, headers = perf_counter(), scope[HEADERS]
            if b"content-type" not in headers:  # any page can send this without a preflight request
                refuse_cross_site(Request(scope))
            received = await receive_body(headers, receive, self.context.limits.max_body_bytes)
            # an empty body is valid: tritonclient lists the repository by one
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
        answered: Response = await self.endpoint(body=decoded.body, request=Request(scope))
        return answered


class ClassifyRoute(DialectRoute):
    """A route that classifies the texts of its body; its endpoint only documents the body."""

    async def respond_to(self, decoded: DialectRequest, scope: Scope) -> Response:
        """Return the predictions."""
        return await self.service.answer(self.dialect, decoded, scope[CALLER])


class DialectRoutes:
    """Declares the routes of one dialect; a path that another dialect has declared already is skipped."""

    def __init__(self, app: Application, dialect: Dialect, service: DialectService):
        self.service, self._app, self._dialect = service, app, dialect
        self._route_class = DialectRoute.of(app.context, dialect, service)
        self._classify_class = ClassifyRoute.of(app.context, dialect, service)
        self._router = APIRouter(generate_unique_id_function=lambda route: route.name)

    def classify(
        self, path: str, body: type[BaseModel], response: Any, *, summary: str, example: object
    ) -> None:
        """Declare a route that classifies the texts that the dialect finds in a body."""
        documented = Body(openapi_examples={"texts": {"value": example}})

        async def classify(body: BaseModel) -> None:
            """Document the body; see `ClassifyRoute`."""

        # FastAPI reads the model from the annotation, which is known only here
        classify.__annotations__["body"] = Annotated[body, documented]
        options = {"summary": summary, "access": PREDICT, "route_class_override": self._classify_class}
        self.post(path, response, **options)(classify)

    def get(self, path: str, response: Any, **options: Any) -> Decorator:
        """Return the decorator for a route that describes something."""
        return self._declare("get", path, response, **options)

    def post(self, path: str, response: Any, **options: Any) -> Decorator:
        """Return the decorator for a route that takes a body."""
        return self._declare("post", path, response, **options)

    def _declare(
        self, method: str, path: str, response: Any, *, access: Access = ANY_KEY, **options: Any
    ) -> Decorator:
        parameters = [Depends(_PARAMETERS[name]) for name in _PARAMETERS if f"{{{name}" in path]
        words = re.sub("[^a-z0-9]+", "_", path.replace(":model", "")).strip("_")

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
                    name=f"{self._dialect.name}_{method}_{words}",
                    dependencies=[Depends(Requires(access)), *parameters],
                    **{"route_class_override": self._route_class} | options,
                )
                # moved by hand: `include_router` would build every route a second time
                self._app.router.routes.append(self._router.routes.pop())
            return endpoint

        return declare


# bounded, because callers choose the model's name in a path
_MAX_CACHED_PATHS = 256


class DialectFastPath:
    """Finds the routes that classify by a cached path; the router would try every route in turn.

    `ClassifyRoute` handles such a request as it would after the router; all others are passed to `app`. This
    takes half of the time of a request through the router (docs/lab-notes.md).
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], *, is_on: bool):
        self._app = app
        found = [one for one in routes if is_on and isinstance(one, ClassifyRoute)]
        self._by_path = {one.path: one for one in found if not one.param_convertors}
        self._by_pattern = [one for one in found if one.param_convertors]
        self._find = lru_cache(_MAX_CACHED_PATHS)(self._match)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http" and scope["method"] == "POST":
            route, parameters = self._find(scope["path"])
            if route is not None:
                # set as the router sets them: metrics, traces and errors read the route's path
                scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, parameters
                response = await route.respond(scope, receive)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _match(self, path: str) -> tuple[ClassifyRoute | None, dict[str, str]]:
        """Return the route of a path and its parameters."""
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


_MODEL_MEANING = "The model: `name`, `name@version` or `name@alias`."


def _model(
    model: Annotated[str, Path(description=_MODEL_MEANING, pattern="^[^/:]+$")],
) -> None:
    """Document the parameter."""


def _version(version: Annotated[str, Path(description="The version of the model.")]) -> None:
    """Document the parameter."""


_PARAMETERS: dict[str, Callable[..., None]] = {"model": _model, "version": _version}
