"""What the methods of a client return or raise: the service's JSON, typed, and its error codes as exceptions.

Fields of later versions are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, field

from tamis.errors import TamisError


class _PredictionTop(Struct, frozen=True):
    label: str
    value: float


class ServedPrediction(Struct, frozen=True):
    """The prediction for one text.

    `label` is the most probable label and `score` its probability; `decision` is the label at the model's
    operating point. Feedback and the log refer to `id`.
    """

    top: _PredictionTop
    scores: dict[str, float] = field(name="prediction")
    decision: str
    id: str
    from_cache: bool
    model_name: str
    model_version: str
    input: str | None = None

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.top.label

    @property
    def score(self) -> float:
        """The probability of `label`."""
        return self.top.value


class LoggedPrediction(Struct, frozen=True):
    """One text of one call in the call log."""

    id: str
    called_at: datetime
    caller: str
    input: str
    label: str
    score: float
    model: str
    from_cache: bool
    decision: str | None = None
    model_name: str | None = None
    model_version: str | None = None


class LogPage(Struct, frozen=True):
    """One page of the call log."""

    calls: list[LoggedPrediction]
    next_cursor: str | None = None


class FeedbackReceipt(Struct, frozen=True):
    """The true label of a text as the service has stored it."""

    id: str
    label: str
    input: str
    created_at: datetime
    updated_at: datetime
    is_new_label: bool
    prediction_id: str | None = None
    predicted: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    comment: str = ""


class VersionStatus(Struct, frozen=True):
    """One version of a model: `state` is served, loaded, on disk or failed."""

    version: str
    state: str
    aliases: list[str] = field(default_factory=list)
    reason: str | None = None


class ModelStatus(Struct, frozen=True):
    """One model: the version that is served, its labels, aliases and versions."""

    name: str
    is_default: bool
    version: str | None
    labels: list[str] | None
    aliases: dict[str, str]
    versions: list[VersionStatus]
    digest: str | None = None
    error: str | None = None


class TokenExplanation(Struct, frozen=True):
    """The contributions to a logit; each token is its text, start, end and contribution."""

    text: str
    label: str
    probability: float
    logit: float
    method: str
    base: float
    tokens: list[tuple[str, int, int, float]]
    whole: float
    families: dict[str, float]


Filters = dict[str, Any]
"""Query parameters of the log, such as `since`, `label` or `contains`."""


class ServiceError(TamisError):
    """An error response, or none at all.

    code:        the service's code, such as `text_too_long`
    status:      the HTTP status; 0 if there was no response
    retry_after: seconds after which to retry, if the service sent them
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
    # a status that is not listed: by its class
    default = RequestRefusedError if 400 <= status < 500 else ServiceError
    try:
        fields = msgspec.json.decode(content, type=_Envelope).error
    # a proxy answers with HTML
    except (msgspec.DecodeError, UnicodeDecodeError):
        fields = _Fields(f"http_{status}", f"the response has status {status} and is not of this service")
    wait = headers.get("retry-after", "")
    return _BY_STATUS.get(status, default)(
        fields.code,
        fields.message,
        status=status,
        # the header may also be a date, which the service never sends
        retry_after=float(wait) if wait.isascii() and wait.isdigit() else None,
        request_id=headers.get("x-request-id", ""),
    )
