"""What a service answers instead of a result, as exceptions with the codes of its error responses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tamis.errors import TamisError


class ServiceError(TamisError):
    """An error response, or none at all.

    code:        the service's code, such as `text_too_long`
    status:      the HTTP status; 0 if there was no response
    retry_after: seconds after which the request may be sent again, if the service said so
    request_id:  names the request in the service's log
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        request_id: str = "",
    ):
        self.code, self.status = code, status
        self.retry_after, self.request_id = retry_after, request_id
        super().__init__(f"{code}: {message}")


class RequestRefusedError(ServiceError):
    """The request is not valid: 400, 413, 415, 422 and others."""


class AccessError(ServiceError):
    """There is no key, or it is not valid here: 401 and 403."""


class NotFoundError(ServiceError):
    """There is no such model, version, alias, prediction or path: 404."""


class RateLimitedError(ServiceError):
    """Too many texts or reads of one caller: 429."""


class UnavailableError(ServiceError):
    """The service cannot do this now: 502, 503 and 504."""


class ConnectionFailedError(ServiceError):
    """No response: the code is `unreachable`, `timeout` or `broken_connection`."""


_BY_STATUS: dict[int, type[ServiceError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


class _Fields(msgspec.Struct):
    code: str
    message: str


class _Envelope(msgspec.Struct):
    error: _Fields


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    """Return the exception for an error response, also for one that a proxy made."""
    default = RequestRefusedError if 400 <= status < 500 else ServiceError
    try:
        fields = msgspec.json.decode(content, type=_Envelope).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        fields = _Fields(f"http_{status}", f"the response has status {status} and is not of this service")
    wait = headers.get("retry-after", "")
    return _BY_STATUS.get(status, default)(
        fields.code,
        fields.message,
        status=status,
        retry_after=float(wait) if wait.isascii() and wait.isdigit() else None,
        request_id=headers.get("x-request-id", ""),
    )
