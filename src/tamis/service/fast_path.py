"""`POST /prediction` and `POST /predictions` without FastAPI: the same responses in a third of the time.

    request ─► caller allowed, plain JSON content type, body within the limit, fields valid?
                 yes ─► Predictor, which makes the same response as for the FastAPI route
                 no  ─► the FastAPI application, which reads the body once more and words every error

So the fast path accepts a subset of what the routes accept and words no error of its own. A property
test sends the same requests to both and compares status, headers and bytes; `TAMIS_FAST_PATH=false`
turns it off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.errors import InputError
from tamis.service.api.errors import response_to
from tamis.service.api.predictor import Predictor
from tamis.service.api.route import ApiContext
from tamis.service.eager_task import ensure_task
from tamis.service.request_body import BODY_SECONDS, HEADERS, WHOLE_BODY, is_plain_json, receive_plain_body
from tamis.service.responses import BytesResponse
from tamis.service.security.client_identity import CALLER, PREDICT, Caller

_BACKSLASH = ord("\\")


class _One(Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    echo_input: bool = False
    skip_cache: bool = False


class _Many(Struct, frozen=True, forbid_unknown_fields=True):
    texts: Annotated[list[str], Meta(min_length=1)]
    echo_input: bool = True
    skip_cache: bool = False


Fields = TypeVar("Fields", _One, _Many)

_decode_one = msgspec.json.Decoder(_One).decode
_decode_many = msgspec.json.Decoder(_Many).decode
_NAMES = tuple(f'"{name}"'.encode() for name in sorted({*_One.__struct_fields__, *_Many.__struct_fields__}))

Handler = Callable[[bytes, Caller], Awaitable[BytesResponse] | None]
"""Answers a body; returns None if the FastAPI route has to."""


class FastPath:
    """Answers valid requests of the two hot routes, and passes every other one to `app`."""

    def __init__(self, app: ASGIApp, predictor: Predictor, context: ApiContext, *, is_on: bool):
        self._app, self._predictor, self._context, self._limits = app, predictor, context, context.limits
        handlers: dict[str, Handler] = {"/prediction": self._one, "/predictions": self._many}
        self._handlers = handlers if is_on else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        # cheapest checks first; a lifespan has no path, a WebSocket no method
        handler = self._handlers.get(scope.get("path", ""))
        # parameters in the query are for the route to refuse
        if handler is not None and scope.get("method") == "POST" and not scope["query_string"]:
            headers = scope[HEADERS]
            if is_plain_json(headers) and self._is_allowed(scope):
                began = perf_counter()
                try:
                    body = scope.get(WHOLE_BODY)
                    if body is None or len(body) > self._limits.max_body_bytes:
                        body = await receive_plain_body(headers, receive, self._limits.max_body_bytes)
                        receive = _replayed(body, receive)
                    answering = handler(body, scope[CALLER])
                    if answering is None:
                        response = None
                    else:
                        scope[BODY_SECONDS] = perf_counter() - began
                        response = await answering
                except Exception as error:  # noqa: BLE001 - as the routes do: every request gets a response
                    response = response_to(error, scope)
                if response is not None:
                    await response(scope, receive, send)
                    return
        await ensure_task()  # FastAPI needs the current task
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        try:
            scope[CALLER] = self._context.callers.identify(scope, PREDICT)
        except InputError:  # the route words the refusal
            return False
        return True

    def _one(self, body: bytes, caller: Caller) -> Awaitable[BytesResponse] | None:
        query = _decoded(_decode_one, body)
        if query is None or len(query.text) > self._limits.max_text_chars:
            return None
        return self._predictor.one(
            query.text, caller, echo_input=query.echo_input, skip_cache=query.skip_cache
        )

    def _many(self, body: bytes, caller: Caller) -> Awaitable[BytesResponse] | None:
        query, limits = _decoded(_decode_many, body), self._limits
        if query is None or len(query.texts) > limits.max_texts:
            return None
        # the schema has at least one text, so max() has an argument
        if max(map(len, query.texts)) > limits.max_text_chars:
            return None
        return self._predictor.many(
            query.texts, caller, echo_input=query.echo_input, skip_cache=query.skip_cache
        )


def _decoded(decode: Callable[[bytes], Fields], body: bytes) -> Fields | None:
    """Return the fields of a body, None for one that is invalid or might have a duplicate name."""
    try:
        query = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # A name is known, or decoding would have failed. One that is given twice is found as it is unless
    # it is spelled with a backslash; within a text its quotes would have one too.
    if body.count(b":") > 1 and (_BACKSLASH in body or any(body.count(name) > 1 for name in _NAMES)):
        return None
    return query


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then what `receive` gives."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
