"""The interface between the wire formats of other servers and the service.

request ─► DialectRoute: caller (401, 403), body, schema ─► Dialect.decode ─► TextQuery
        ─► DialectService: limits, model, rate limit, classification ─► Answer ─► Dialect.encode
any error ─► the service's own response ─► Dialect.encode_error ─► the dialect's envelope and status
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Scope

from tamis.clock import Clock
from tamis.errors import InputError
from tamis.inference.classifier import Classifier
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ServedModel
from tamis.service.api.models import Broadcast
from tamis.service.api.predictor import Predictor
from tamis.service.api.route import RequestLimits
from tamis.service.http import DRAINING
from tamis.service.micro_batch import Classified
from tamis.service.request_body import check_content_type, parse_json
from tamis.service.responses import ErrorResponse
from tamis.service.security.client_identity import Caller
from tamis.service.telemetry.metrics import Metrics

if TYPE_CHECKING:  # routes.py imports this module
    from tamis.service.dialects.routes import DialectRoutes

_SCORE = itemgetter(1)


class DialectRequest(Struct, frozen=True):
    """A request with a body that is valid by the dialect's schema."""

    model: type[BaseModel]
    body: Any
    """A struct with the fields of `model`, or such a model."""
    path: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    limits: RequestLimits
    binary: bytes = b""
    """The bytes after the JSON part of a body in two parts."""


class TextQuery(Struct, frozen=True):
    """Texts to classify; `field` names them in messages.

    `model` is `name`, `name@version` or `name@alias`.
    """

    texts: Sequence[str]
    field: str
    model: str | None = None
    version: str | None = None


class Answer(Struct, frozen=True):
    """The predictions for the texts of one query, in the same order."""

    model: Classifier
    texts: Sequence[str]
    classified: Sequence[Classified]
    seconds: float
    created_at: int
    """In seconds since 1970."""

    def ranked(self, index: int) -> list[tuple[str, float]]:
        """Return the labels of one text with their probabilities, most probable first."""
        scores = self.classified[index].prediction.scores
        return sorted(scores.items(), key=_SCORE, reverse=True)


class Dialect(ABC):
    """One wire format. Stateless: encoding reads what it needs from the request."""

    name: ClassVar[str]
    """The dialect's name in TAMIS_DIALECTS and in metrics."""
    title: ClassVar[str]
    """The tag of its routes in the OpenAPI document."""
    description: ClassVar[str]
    error_model: ClassVar[type[BaseModel]]
    formats: ClassVar[str] = "JSON"
    """The formats of its bodies, for the description of the status 415."""
    invalid_body_status: ClassVar[int] = 422
    """Its status for a body that the service answers with 422."""

    @abstractmethod
    def add_routes(self, routes: DialectRoutes) -> None:
        """Declare the routes of the dialect."""

    @abstractmethod
    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of a request; raise InputError if it is not valid."""

    @abstractmethod
    def encode(self, request: DialectRequest, answer: Answer) -> Response:
        """Return the response with the predictions."""

    def encode_error(self, error: ErrorResponse) -> ErrorResponse:
        """Return an error in the dialect's envelope, with its status."""
        status = self.status(error.code, error.status_code)
        return error.rendered(status, self.error_body(error, status))

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return the dialect's envelope of an error."""
        return {"error": error.message}

    def status(self, code: str, status: int) -> int:
        """Return the dialect's status for an error of this code and this status of the service."""
        return self.invalid_body_status if status == 422 else status

    def parse(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Any, bytes]:
        """Return the document in a body, and the bytes that follow it; raise InputError if it is invalid."""
        check_content_type(headers, b"")  # b"": some clients send no content type
        return parse_json(body), b""


@dataclass(frozen=True)
class DialectService:
    """Classifies the texts of a request of any dialect; dialects reach the service only through it."""

    predictor: Predictor
    limits: RequestLimits
    clock: Clock
    metrics: Metrics
    broadcast: Broadcast
    started_at: datetime

    @property
    def pool(self) -> ModelPool:
        """The models that are served."""
        return self.predictor.pool

    async def resolve(self, reference: str | None, version: str | None = None) -> ServedModel:
        """Return a model by `name`, `name@version` or `name@alias`; without a name the default one."""
        name, _, selector = (reference or "").partition("@")
        # aliases begin with a letter, so digits are a version
        if selector.isdigit() and version is None:
            version, selector = selector, ""
        return await self.pool.resolve(name or None, version, selector or None)

    async def answer(self, dialect: Dialect, request: DialectRequest, caller: Caller) -> Response:
        """Return the dialect's response to a request."""
        query = dialect.decode(request)
        self._check(query)
        reference, pool = query.model, self.pool
        model = pool.default if reference is None else await self.resolve(reference, query.version)
        # a canary takes over only from callers who named no version and no alias
        if query.version is None and (reference is None or "@" not in reference):
            model = self.predictor.answering(model, caller)
        began = perf_counter()
        classified, headers = await self.predictor.classify(model, query.texts, caller)
        seconds, created_at = perf_counter() - began, self.clock.utc_ns() // 10**9
        response = dialect.encode(
            request, Answer(model.classifier, query.texts, classified, seconds, created_at)
        )
        if headers:  # of the rate limit
            response.raw_headers += headers
        return response

    def _check(self, query: TextQuery) -> None:
        # not in the schemas: a text may be a string, a list item, a record's cell or a tensor's element
        texts, limits = query.texts, self.limits
        if not texts:
            raise InputError("no_texts", f"`{query.field}` must contain at least one text", field=query.field)
        if len(texts) > limits.max_texts:
            message = f"`{query.field}` contains more than {limits.max_texts} texts"
            raise InputError("too_many_texts", message, field=query.field)
        for index, text in enumerate(texts):
            if len(text) > limits.max_text_chars:
                shown = f"{query.field}[{index}]"
                message = f"`{shown}` is longer than {limits.max_text_chars} characters"
                raise InputError("text_too_long", message, field=shown)

    def is_draining(self, scope: Scope) -> bool:
        """Return whether the service is shutting down."""
        # set by our own server; other ASGI servers have no such state, and then it is never draining
        return bool(scope.get("state", {}).get(DRAINING))


def wrong(message: str, field: str) -> InputError:
    """Return the error for a field whose value cannot be used."""
    return InputError("wrong_type", message, field=field)
