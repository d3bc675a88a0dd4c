"""The FastAPI application class: strict routes, one error envelope, middleware outside of FastAPI's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from tamis import __version__
from tamis.inference.model_pool import ModelPool
from tamis.service.api.route import ApiContext, StrictRoute
from tamis.service.responses import error_response, json_response

_TAGS = [
    {"name": "classification", "description": "Classify texts."},
    {"name": "models", "description": "The models, their versions and aliases."},
    {"name": "call log", "description": "Your own calls: each text is logged once."},
    {"name": "feedback", "description": "True labels of your own predictions, or of texts."},
    {"name": "keys", "description": "API keys, for admins."},
    {"name": "info", "description": "The service and its model."},
    {"name": "health", "description": "For load balancers, orchestrators and monitoring."},
]


class Application(FastAPI):
    """FastAPI with our route class and error bodies, inside our own middleware.

    `FastAPI.add_middleware` would put the middleware inside two of FastAPI's own, which cost the fast path
    more than its own work.
    """

    pool: ModelPool
    """The models that are served; `create_app` sets it."""

    def __init__(
        self,
        title: str,
        context: ApiContext,
        *,
        description: str = "",
        lifespan: Lifespan[FastAPI] | None = None,
    ):
        super().__init__(
            title=title,
            version=__version__,
            description=description,
            lifespan=lifespan,
            openapi_url=None,  # served by a route with our access checks
            docs_url=None,
            redoc_url=None,
            openapi_tags=_TAGS,
            exception_handlers={HTTPException: self._not_routed},
            # FastAPI's default contains the path, so operation ids would change whenever a path does
            generate_unique_id_function=lambda route: route.name,
        )
        self.context = context
        self._served_document: dict[str, Any] | None = None
        self.examples: dict[str, Callable[[], object]] = {}
        """Functions that make the example of a POST route's response, by its path; too slow for start-up."""
        self.router.route_class = StrictRoute.bound(context)
        self.router.redirect_slashes = (
            False  # PathNormalizer removes them; a redirect would cost a round trip
        )
        self._outermost: ASGIApp = super().__call__
        self.router.get("/openapi.json", include_in_schema=False)(self._document)

    def wrap(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Wrap the application in a middleware."""
        self._outermost = middleware(self._outermost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        await self._outermost(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, built on first use."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path, make in self.examples.items():
                content = document["paths"][path]["post"]["responses"]["200"]["content"]
                content["application/json"]["example"] = make()
        return super().openapi()

    async def _document(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        prefix = request.scope.get("root_path", "")
        if self._served_document is None:  # built in a thread: it takes longer than many predictions
            self._served_document = await asyncio.to_thread(self.openapi)
        # behind a prefix, "try it out" needs to know it
        return json_response(self._served_document | ({"servers": [{"url": prefix}]} if prefix else {}))

    async def _not_routed(self, request: Request, error: Exception) -> Response:
        """Return the response to a path or a method that has no route."""
        # like starlette's router, but over all routes: it would name the methods of the first match only
        routes = [
            route
            for route in self.routes
            if isinstance(route, StrictRoute) and route.matches(request.scope)[0] is Match.PARTIAL
        ]
        if not routes:
            return error_response("not_found", "path not found; see /docs")
        methods: set[str] = set().union(*(route.methods for route in routes))
        listed = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
        message = f"method not allowed; use {listed}"
        refusal = error_response("method_not_allowed", message, [(b"allow", listed.encode())])
        return routes[0].encode_error(refusal)  # in the envelope of the path's dialect
