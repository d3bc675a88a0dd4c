"""The logic of both clients, without input or output: generators of requests and pauses.

    operation ─► Request ─► (a client sends it) ─► Reply or Failure ─► … ─► result
              ─► Pause   ─► (a client sleeps)   ─► None

So each rule, such as when to retry, is written once; `Client` and `AsyncClient` only send and sleep.

At the end, what both need of httpx: addresses, headers, its exceptions as failures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import msgspec

from tamis.client.records import (
    ConnectionFailedError,
    FeedbackReceipt,
    Filters,
    LogPage,
    ModelStatus,
    RequestRefusedError,
    ServedPrediction,
    ServiceError,
    TokenExplanation,
    error_of,
)
from tamis.errors import MissingExtraError

# doubled with each attempt, up to the maximum; the service's Retry-After takes precedence
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
# codes of requests that may pass as two
_TOO_LARGE = ("too_many_texts", "body_too_large")
_ENVELOPE_BYTES = 200
"""Bytes of a body beside its texts."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A request that a client is to send."""

    method: str
    path: str
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A response; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Failure:
    """No response; `is_worth_retrying` if the service may be there again soon."""

    error: ConnectionFailedError
    is_worth_retrying: bool


@dataclass(frozen=True)
class Pause:
    """Seconds that a client is to wait."""

    seconds: float


Steps = Generator[Request | Pause, Reply | Failure | None, Result]


@dataclass(frozen=True)
class RetryPolicy:
    """When a request is sent again.

    retries:          how often after a lost connection, or a 503 that names no time
    max_wait_seconds: maximum sum of the pauses of one request, `Retry-After` included
    """

    retries: int = 3
    max_wait_seconds: float = 60.0


@dataclass(frozen=True)
class TextOptions:
    """How texts are classified, and how many of them one request has."""

    model: str | None = None
    echo_input: bool = False
    skip_cache: bool = False
    max_texts: int = 1_000
    max_body_bytes: int = 1_000_000


def _call(policy: RetryPolicy, request: Request, result: type[Result]) -> Steps[Result]:
    """Send a request until there is a response, and return its contents."""
    attempts, waited = 0, 0.0
    while True:
        reply = yield request
        if isinstance(reply, Reply) and reply.status < 300:
            return msgspec.json.decode(reply.content, type=result)
        assert reply is not None
        if isinstance(reply, Failure):
            error: ServiceError = reply.error
            may_retry = reply.is_worth_retrying
        else:
            error = error_of(reply.status, reply.headers, reply.content)
            # a proxy or service that restarts; a 504 may still be worked on
            may_retry = error.status in (502, 503)
        pause = error.retry_after
        # without Retry-After the number of attempts is bounded, with it the time
        if pause is None:
            if not may_retry or attempts >= policy.retries:
                raise error
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempts, _MAX_PAUSE_SECONDS)
            attempts += 1
        # Retry-After: 0 must not become a busy loop
        pause = max(pause, _FIRST_PAUSE_SECONDS)
        if waited + pause > policy.max_wait_seconds:
            raise error
        waited += pause
        yield Pause(pause)


def _prefix(model: str | None) -> str:
    """Return the path before `/prediction` of `name`, `name@version` or `name@alias`."""
    if model is None:
        return ""
    # a number is a version; other words are aliases, which the service resolves
    name, _, selector = model.partition("@")
    if selector.isdigit():
        return f"/models/{quote(name, safe='')}/versions/{selector}"
    return f"/models/{quote(model, safe='@')}"


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        # the error that the service would send: JSON is UTF-8, which has no surrogates
        raise RequestRefusedError("not_json", "a text contains an unpaired surrogate") from None


def predict(policy: RetryPolicy, text: str, options: TextOptions) -> Steps[ServedPrediction]:
    """Classify one text."""
    body = {"text": text, "echo_input": options.echo_input, "skip_cache": options.skip_cache}
    request = Request("POST", f"{_prefix(options.model)}/prediction", _encoded(body))
    return (yield from _call(policy, request, ServedPrediction))


def batches(texts: Iterable[str], options: TextOptions) -> Iterator[list[str]]:
    """Split texts into the lists of single requests, by their number and their bytes."""
    batch: list[str] = []
    size = _ENVELOPE_BYTES
    for text in texts:
        # encoded: escapes and non-ASCII characters count as in the body
        text_bytes = len(_encoded({"": text}))
        if batch and (len(batch) >= options.max_texts or size + text_bytes > options.max_body_bytes):
            yield batch
            batch, size = [], _ENVELOPE_BYTES
        batch.append(text)
        size += text_bytes
    if batch:
        yield batch


def predict_batch(
    policy: RetryPolicy, texts: Sequence[str], options: TextOptions
) -> Steps[list[ServedPrediction]]:
    """Classify the texts of one request; halve it if this service takes less at once."""
    body = {"texts": texts, "echo_input": options.echo_input, "skip_cache": options.skip_cache}
    request = Request("POST", f"{_prefix(options.model)}/predictions", _encoded(body))
    try:
        return (yield from _call(policy, request, list[ServedPrediction]))
    except RequestRefusedError as refused:
        # limits are settings of the service, unknown here; one text cannot be halved
        if refused.code not in _TOO_LARGE or len(texts) == 1:
            raise
    middle = len(texts) // 2
    first = yield from predict_batch(policy, texts[:middle], options)
    return first + (yield from predict_batch(policy, texts[middle:], options))


def feedback(
    policy: RetryPolicy, label: str, *, prediction_id: str | None, text: str | None, comment: str
) -> Steps[FeedbackReceipt]:
    """Report a true label; sent twice it counts once."""
    subjects = {"prediction_id": prediction_id, "text": text}
    given = {name: value for name, value in subjects.items() if value is not None}
    if len(given) != 1:
        raise ValueError("give exactly one of prediction_id and text")
    body = _encoded({**given, "label": label, "comment": comment})
    return (yield from _call(policy, Request("POST", "/feedback", body), FeedbackReceipt))


def log_page(policy: RetryPolicy, filters: Filters, cursor: str | None) -> Steps[LogPage]:
    """Read one page of the call log."""
    # times in RFC 3339
    params = {
        name: value.isoformat() if hasattr(value, "isoformat") else str(value)
        for name, value in filters.items()
        if value is not None
    }
    if cursor is not None:
        params["cursor"] = cursor
    return (yield from _call(policy, Request("GET", "/log", params=params), LogPage))


def models(policy: RetryPolicy) -> Steps[list[ModelStatus]]:
    """List the models."""
    return (yield from _call(policy, Request("GET", "/models"), list[ModelStatus]))


def explain(policy: RetryPolicy, text: str, label: str | None) -> Steps[TokenExplanation]:
    """Explain the prediction of the default model."""
    body = _encoded({"text": text, "label": label})
    return (yield from _call(policy, Request("POST", "/explanation", body), TokenExplanation))


try:
    import httpx as httpx  # both clients take it from here
except ModuleNotFoundError:
    raise MissingExtraError("the client", "client") from None

_UNIX_PREFIX = "unix:"


class ClientSettings(TypedDict):
    """What both clients of httpx are made with."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout


def client_settings(address: str, api_key: str | None, timeout: float) -> ClientSettings:
    """Return the settings for an address such as `http://127.0.0.1:8000`, with a path if there is one."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    # httpx needs an address; the socket is chosen by the transport
    base_url = "http://localhost" if address.startswith(_UNIX_PREFIX) else address
    # pool=None: threads that wait for one another's connections are no failure of the service
    return {"base_url": base_url, "headers": headers, "timeout": httpx.Timeout(timeout, pool=None)}


def unix_path(address: str) -> str | None:
    """Return the path of `unix:/run/tamis.sock`, None for another address."""
    return address.removeprefix(_UNIX_PREFIX) if address.startswith(_UNIX_PREFIX) else None


def parts(request: Request) -> dict[str, Any]:
    """Return a request as the arguments of httpx."""
    headers = {} if request.content is None else {"content-type": "application/json"}
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "params": dict(request.params),
        "headers": headers,
    }


def reply(response: httpx.Response) -> Reply:
    """Return a response of httpx."""
    return Reply(response.status_code, response.headers, response.content)


def failure(error: httpx.TransportError) -> Failure:
    """Return the failure of a request without a response."""
    is_unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
    # the service may still be working on it: sent again, its texts would be logged twice
    is_timeout = isinstance(error, httpx.TimeoutException) and not is_unsent
    code = "timeout" if is_timeout else "unreachable" if is_unsent else "broken_connection"
    # the class only: messages of httpx may contain parts of the request
    failed = ConnectionFailedError(code, f"no response from the service ({type(error).__name__})")
    return Failure(failed, is_worth_retrying=not is_timeout)
