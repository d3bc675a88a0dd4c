"""The interface between the wire formats of other servers and the service.

request ─► DialectRoute: caller (401, 403), body, schema ─► Dialect.decode ─► TextQuery
        ─► DialectService: limits, model, rate limit, classification ─► QueryResult ─► Dialect.encode
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

from tamis.clock import Clock
from tamis.errors import InputError
from tamis.inference.classifier import Classifier
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ServedModel
from tamis.service.api.models import Broadcast
from tamis.service.api.predictor import Predictor
from tamis.service.api.route import RequestLimits
from tamis.service.micro_batch import Classified
from tamis.service.request_body import check_content_type, parse_json
from tamis.service.responses import ErrorResponse
from tamis.service.security.client_identity import Caller
from tamis.service.telemetry.metrics import Metrics
from tamis.types import Prediction

if TYPE_CHECKING:  # routes.py imports this module
    from tamis.service.dialects.routes import DialectRoutes

_SCORE = itemgetter(1)


class DialectRequest(Struct, frozen=True):
    """A request whose body matches the dialect's schema."""

    model: type[BaseModel]
    body: Any
    """A struct with the fields of `model`, or such a model."""
    path: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    limits: RequestLimits
    binary: bytes = b""
    """The bytes after the JSON part of the body; empty in formats that have JSON only."""


class TextQuery(Struct, frozen=True):
    """Texts to classify; `field` is their name in error messages.

    `model` is `name`, `name@version` or `name@alias`; None is the default model.
    """

    texts: Sequence[str]
    field: str
    model: str | None = None
    version: str | None = None


class QueryResult(Struct, frozen=True):
    """The predictions for the texts of one query, in the same order."""

    model: Classifier
    texts: Sequence[str]
    classified: Sequence[Classified]
    seconds: float
    """The time that the classification took."""
    created_at: int
    """In seconds since 1970."""

    @property
    def predictions(self) -> list[Prediction]:
        """The prediction for each text."""
        return [one.prediction for one in self.classified]

    @property
    def word_count(self) -> int:
        """The number of words, for fields that count tokens: a linear model has no tokenizer."""
        return sum(map(len, map(str.split, self.texts)))

    def ranked(self, index: int) -> list[tuple[str, float]]:
        """Return the labels of one text with their probabilities, most probable first."""
        scores = self.classified[index].prediction.scores
        return sorted(scores.items(), key=_SCORE, reverse=True)


class Dialect(ABC):
    """One wire format. Stateless: encoding reads what it needs from the request."""

    name: ClassVar[str]
    """The value in TAMIS_DIALECTS and the label in metrics."""
    title: ClassVar[str]
    """The tag of its routes in the OpenAPI document."""
    description: ClassVar[str]
    """The description of the tag."""
    error_model: ClassVar[type[BaseModel]]
    formats: ClassVar[str] = "JSON"
    """The formats of request bodies, for the description of status 415."""
    invalid_body_status: ClassVar[int] = 422
    """The status of an invalid body, which is 422 in the native API."""

    @abstractmethod
    def add_routes(self, routes: DialectRoutes) -> None:
        """Declare the routes of the dialect."""

    @abstractmethod
    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of a request; raise InputError if it is invalid."""

    @abstractmethod
    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the response with the predictions."""

    def encode_error(self, error: ErrorResponse) -> ErrorResponse:
        """Return an error of the service with the dialect's status and envelope."""
        status = self.error_status(error.code, error.status_code)
        return error.rendered(status, self.error_body(error, status))

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return the dialect's envelope of an error."""
        return {"error": error.message}

    def error_status(self, code: str, status: int) -> int:
        """Return the dialect's status of an error whose code and status in the native API are given."""
        return self.invalid_body_status if status == 422 else status

    def parse(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Any, bytes]:
        """Return the document in a body and the bytes that follow it; raise InputError if it is invalid."""
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
        """Return a model by `name`, `name@version` or `name@alias`; the default one without a name."""
        name, _, selector = (reference or "").partition("@")
        # digits are a version, because aliases begin with a letter
        if selector.isdigit() and version is None:
            version, selector = selector, ""
        return await self.pool.resolve(name or None, version, selector or None)

    async def respond(self, dialect: Dialect, request: DialectRequest, caller: Caller) -> Response:
        """Return the dialect's response to a request."""
        query = dialect.decode(request)
        self._check_limits(query)
        reference = query.model
        model = self.pool.default if reference is None else await self.resolve(reference, query.version)
        # a canary gets only requests that name neither a version nor an alias
        if query.version is None and (reference is None or "@" not in reference):
            model = self.predictor.answering(model, caller)
        began = perf_counter()
        classified, headers = await self.predictor.classify(model, query.texts, caller)
        seconds, created_at = perf_counter() - began, self.clock.utc_ns() // 10**9
        result = QueryResult(model.classifier, query.texts, classified, seconds, created_at)
        response = dialect.encode(request, result)
        if headers:  # of the rate limit
            response.raw_headers += headers
        return response

    def _check_limits(self, query: TextQuery) -> None:
        # not by the schemas, because only decoding finds the texts: in lists, cells of records, tensors
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


def invalid_field(message: str, field: str) -> InputError:
    """Return the error for a field with an invalid value."""
    return InputError("wrong_type", message, field=field)
