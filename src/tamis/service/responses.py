"""Responses: a status, headers and bytes, and the status of every error code."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tamis.errors import InputError, OverloadedError

STATUS_BY_CODE = {
    "not_http": 400,
    "not_json": 400,
    "not_csv": 400,
    "duplicate_field": 400,
    "broken_query": 400,
    "incomplete_body": 400,
    "unknown_host": 400,
    "missing_key": 401,
    "wrong_key": 401,
    "expired_key": 401,
    "missing_scope": 403,
    "not_admin": 403,
    "callers_not_distinct": 403,
    "cross_site": 403,
    "not_found": 404,
    "unknown_model": 404,
    "prediction_not_found": 404,
    "key_not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "search_abandoned": 408,
    "body_too_large": 413,
    "wrong_content_type": 415,
    "compressed_body": 415,
    "broken_encoding": 400,
    "missing_field": 422,
    "unknown_field": 422,
    "wrong_type": 422,
    "no_texts": 422,
    "too_many_texts": 422,
    "text_too_long": 422,
    "unknown_label": 422,
    "bad_cursor": 422,
    "bad_alias": 422,
    "own_key": 422,
    "headers_too_large": 431,
    "rate_limited": 429,
    "too_many_reads": 429,
    "internal_error": 500,
    "unknown_coding": 501,
    "overloaded": 503,
    "log_busy": 503,
    "search_too_long": 503,
    "too_many_connections": 503,
    "store_unavailable": 503,
    "model_unavailable": 503,
    "keys_unavailable": 503,
}

ERROR_CODE = "tamis.error_code"
"""Key of the error code of the response in an ASGI scope."""

EVENTS = "tamis.events"
"""Key of the application's `Events` in the state of its lifespan; the server emits to them, too."""

WHOLE_RESPONSE = "tamis.whole_response"
"""Extension of ASGI by `service/http`: `http.response.start` may have the whole body as `body`, and no
`http.response.body` follows. It costs less than two messages, and a middleware that changes headers need not
know it."""

Headers = list[tuple[bytes, bytes]]

_JSON_HEADERS = [
    (b"content-type", b"application/json"),
    # a response may contain its caller's text, and every call must reach the log
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),  # a text with HTML in it must never be rendered
]
_encode = msgspec.json.Encoder().encode


class Refused(InputError):
    """A rejected request; `headers` go into the response."""

    def __init__(self, code: str, message: str, *, field: str, headers: Headers | None = None):
        self.headers = headers or []
        super().__init__(code, message, field=field)


class BytesResponse(Response):
    """A complete response, sent in one piece."""

    # without starlette's constructor, which encodes and sorts out headers that are bytes already
    def __init__(self, status: int, headers: Headers, body: bytes):
        self.status_code = status
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]
        self.body = body
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; to a HEAD request, without its body."""
        # for HEAD, too, content-length is that of the body, as RFC 9110 allows
        body = b"" if scope["method"] == "HEAD" else self.body
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if WHOLE_RESPONSE in scope.get("extensions", ()):
            start["body"] = body
            await send(start)
        else:
            await send(start)
            await send({"type": "http.response.body", "body": body})


class ErrorResponse(BytesResponse):
    """An error response; stores its code in the scope for metrics and logs."""

    def __init__(self, code: str, message: str, headers: Headers):
        body = _encode({"error": {"code": code, "message": message}})
        super().__init__(STATUS_BY_CODE[code], [*_JSON_HEADERS, *headers], body)
        self.code, self.message, self.extra_headers = code, message, headers

    def rendered(self, status: int, body: object) -> ErrorResponse:
        """Return the same error with the status and the JSON body of another server's format."""
        other = ErrorResponse(self.code, self.message, self.extra_headers)
        BytesResponse.__init__(other, status, [*_JSON_HEADERS, *self.extra_headers], _encode(body))
        return other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        scope[ERROR_CODE] = self.code
        await super().__call__(scope, receive, send)


def json_response(
    body: object, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> BytesResponse:
    """Return a response with `body` as JSON."""
    return BytesResponse(status, [*_JSON_HEADERS, *headers], _encode(body))


def error_response(code: str, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> ErrorResponse:
    """Return an error in the service's envelope; its code decides the status."""
    return ErrorResponse(code, message, [*headers])


def overloaded_response(refused: OverloadedError) -> ErrorResponse:
    """Return the 503 of an overloaded service, with `Retry-After`."""
    return error_response("overloaded", str(refused), [(b"retry-after", b"%d" % refused.retry_after_seconds)])


def rejection_response(refused: InputError) -> ErrorResponse:
    """Return the response to invalid input; close the connection if its body was not read."""
    headers = refused.headers if isinstance(refused, Refused) else []
    # the rest of the body is still arriving and would be read as the next request
    if refused.code == "body_too_large":
        headers = [(b"connection", b"close")]
    return error_response(refused.code, str(refused), headers)
