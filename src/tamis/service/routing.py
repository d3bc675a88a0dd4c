"""From a path and a method to a handler, and from anything a handler raises to an answer.

One dictionary look-up a request. Knows ASGI; knows no path, no body and no model.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.routing import Router
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from tamis.beginning import until_in_task
from tamis.errors import InputError, OverloadedError, StoreError
from tamis.service.answers import Answer, error_answer, overloaded, refusal
from tamis.service.callers import CALLER, Callers
from tamis.service.observing.logs import FIELDS, error_fields
from tamis.service.observing.request_ids import REQUEST_ID

Handler = Callable[[Scope, Receive], Awaitable[ASGIApp]]
"""Reads one request and returns its response, itself a small ASGI application, unsent."""

_log = logging.getLogger(__name__)


class Application:
    """The ASGI application: `routes` maps each exact path to its handlers by method.

    A handler finds who is calling in `scope[CALLER]`. `lifespan` is entered before the first
    request and left after the last.
    """

    def __init__(
        self,
        routes: Mapping[str, Mapping[str, Handler]],
        callers: Callers,
        lifespan: Lifespan[Router] | None = None,
    ):
        self._callers = callers
        self._routes = {path: _with_head(handlers) for path, handlers in routes.items()}
        self._not_found = error_answer("not_found", "there is nothing at this path; see /docs")
        self._store_unavailable = error_answer(
            "store_unavailable", "the call log cannot be read now; try again", [(b"retry-after", b"1")]
        )
        self._other_protocols = Router(lifespan=lifespan)  # answers its messages, and closes a websocket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._other_protocols(scope, receive, send)
            return
        response = await self._respond(scope, receive)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> ASGIApp:
        handlers = self._routes.get(scope["path"])
        if handlers is None:
            return self._not_found
        handler = handlers.get(scope["method"])
        if handler is None:
            return _method_not_allowed(handlers)
        try:
            scope[CALLER] = self._callers.identify(scope)
            return await handler(scope, receive)
        except InputError as refused:
            return refusal(refused)
        except OverloadedError as refused:
            return overloaded(refused)
        except StoreError as failed:  # its words name the store's place: for our log, not for the caller
            _log.warning("store unavailable for %s: %s", scope["path"], failed)
            return self._store_unavailable
        except Exception as unexpected:  # noqa: BLE001 - the outermost place: whatever it is, the caller gets an answer
            _log_defect(unexpected, scope)
            return error_answer("internal_error", "the service failed on this request; it has been logged")


def in_tasks(routes: Mapping[str, Mapping[str, Handler]]) -> dict[str, dict[str, Handler]]:
    """Return routes whose handlers, and the answers that they give, may ask for their current task."""
    return {
        path: {method: _in_task(handler) for method, handler in handlers.items()}
        for path, handlers in routes.items()
    }


def _in_task(handler: Handler) -> Handler:
    async def handle(scope: Scope, receive: Receive) -> ASGIApp:
        await until_in_task()
        return await handler(scope, receive)

    return handle


def always(answer: Answer) -> Handler:
    """Return the handler of a path at which the answer is always the same."""

    async def handle(scope: Scope, receive: Receive) -> ASGIApp:
        return answer

    return handle


def _with_head(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    return {**handlers, **({"HEAD": handlers["GET"]} if "GET" in handlers else {})}


def _method_not_allowed(handlers: Mapping[str, Handler]) -> Answer:
    allowed = ", ".join(sorted(handlers))
    message = f"this path answers to {allowed} only"
    return error_answer("method_not_allowed", message, [(b"allow", allowed.encode())])


def _log_defect(unexpected: Exception, scope: Scope) -> None:
    """Log the kind of the error and the lines it passed; its message might hold the caller's text."""
    fields = {
        "request_id": scope.get(REQUEST_ID, b"").decode("ascii"),
        "method": scope["method"],
        "route": scope["path"],
        **error_fields(unexpected),
    }
    _log.error("a defect of ours failed a request", extra={FIELDS: fields})
