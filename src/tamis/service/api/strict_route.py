"""The route class of the API: FastAPI's own, with the caller and the request's bytes checked first.

    request ─► who is calling (401, 403) ─► query string ─► content type, size, JSON (400, 413, 415)
            ─► FastAPI: pydantic, dependencies, the endpoint (422, …) ─► errors as our envelope

FastAPI would read a body of any size before it looks at the caller, and accept JSON that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, ClassVar

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tamis.service.access import OPEN
from tamis.service.api.context import ApiContext, Requires
from tamis.service.api.errors import response_to
from tamis.service.callers import CALLER
from tamis.service.request_body import check_content_type, check_query, parse_json, receive_body


class StrictRequest(Request):
    """A request whose body has been received and parsed already."""

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
        responses = self.context.documented_errors(self.access)
        for status, documented in (options.get("responses") or {}).items():
            responses[status] = responses.get(status, {}) | documented
        options["responses"] = responses
        if not self.context.requires_keys:
            options["dependencies"] = None
        elif self.access.is_optional:
            options["openapi_extra"] = {"security": [{}]}
        super().__init__(path, endpoint, **options)
        self.methods: set[str] = self.methods or set()

    @classmethod
    def bound(cls, context: ApiContext) -> type[StrictRoute]:
        """Return the route class of one application."""
        return type("BoundRoute", (cls,), {"context": context})

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes a request; HEAD is answered as GET, without the body."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD" and "GET" in self.methods
        return super().matches({**scope, "method": "GET"} if is_head else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the router has matched."""
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
            except HTTPException:  # of a file that is not there: answered as an unknown path is
                raise
            except Exception as error:  # noqa: BLE001 - the outermost place: every request gets a response
                return response_to(error, request.scope)

        return checked

    async def _received(self, request: Request) -> Request:
        if self.body_field is None:
            return request
        began = perf_counter()
        headers = dict(request.scope["headers"])
        check_content_type(headers)
        body = await receive_body(headers, request.receive, self.context.limits.max_body_bytes)
        document = parse_json(body)
        self.context.observe_read(perf_counter() - began)
        return StrictRequest(request, body, document)
