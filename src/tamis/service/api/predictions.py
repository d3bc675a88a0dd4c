"""The routes that classify: `/prediction` and `/predictions`, and what they answer.

`Predictor` makes the response; the FastAPI routes and the fast path both call it.
"""

# No `from __future__ import annotations`: the models of a router are local classes, which FastAPI
# could not find by their names.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from msgspec import Struct, to_builtins
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from tamis.errors import InputError, OverloadedError, StoreError
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ServedModel
from tamis.inference.shadow import Traffic
from tamis.service.api.route import RequestLimits, Requires, errors
from tamis.service.bodies import PredictionResponse, TopLabel
from tamis.service.classify import Classified, ClassifyService
from tamis.service.responses import BytesResponse, Headers, json_response
from tamis.service.security.client_identity import CALLER, PREDICT, Caller
from tamis.service.security.rate_limit import RateLimiter
from tamis.storage.ids import uuid_text

_NO_HEADERS: Headers = []
EXAMPLE_TEXTS = ["WIN a FREE phone now, text CLAIM to 80080", "Are we still on for lunch tomorrow?"]
_EXAMPLE_ID = bytes.fromhex("01f1e5fc484372908001030304050607")
_ECHO = "Return the text as `input`, which is null otherwise."
_BODY_ERRORS = (400, 413, 415, 422, 503)
_SKIP = "Skip reading the prediction cache; the fresh answer is stored all the same."


class _Top(Struct, frozen=True, gc=False):
    label: str
    value: float


class _Body(Struct, frozen=True, gc=False):
    """`PredictionResponse` as it is encoded: pydantic would take ten times as long."""

    input: str | None
    prediction: Any
    top: _Top
    from_cache: bool
    decision: str
    id: str
    model_name: str
    model_version: str


class Predictor:
    """Turns checked texts into the response with their predictions."""

    def __init__(
        self,
        pool: ModelPool,
        classification: ClassifyService,
        *,
        limiter: RateLimiter | None,
        traffic: Traffic,
    ):
        self.pool, self._traffic = pool, traffic
        self._classification = classification
        self._limiter = limiter

    @cached_property
    def examples(self) -> list[Any]:
        """The default model's responses to `EXAMPLE_TEXTS`."""
        model = self.pool.default
        answers = zip(EXAMPLE_TEXTS, model.classifier.predict_many(EXAMPLE_TEXTS), strict=True)
        return [
            to_builtins(self.body(text, Classified(prediction, False, _EXAMPLE_ID), model))
            for text, prediction in answers
        ]

    async def one(
        self,
        text: str,
        caller: Caller,
        *,
        echo_input: bool,
        skip_cache: bool,
        model: ServedModel | None = None,
    ) -> BytesResponse:
        """Return the response to one text; without `model` the default one answers."""
        model = model or self.answering(self.pool.default, caller)
        [classified], headers = await self.classify(model, [text], caller, skip_cache=skip_cache)
        return json_response(self.body(text if echo_input else None, classified, model), headers=headers)

    async def many(
        self,
        texts: Sequence[str],
        caller: Caller,
        *,
        echo_input: bool,
        skip_cache: bool,
        model: ServedModel | None = None,
    ) -> BytesResponse:
        """Return the response to a list of texts, in the same order."""
        model = model or self.answering(self.pool.default, caller)
        classified, headers = await self.classify(model, texts, caller, skip_cache=skip_cache)
        inputs = texts if echo_input else [None] * len(texts)
        return json_response(
            [self.body(*pair, model) for pair in zip(inputs, classified, strict=True)], headers=headers
        )

    def answering(self, model: ServedModel, caller: Caller) -> ServedModel:
        """Return the version that answers a caller who named none: `model` or its canary."""
        return self._traffic.choose(model, caller.name) if self._traffic.models else model

    async def classify(
        self, model: ServedModel, texts: Sequence[str], caller: Caller, *, skip_cache: bool = False
    ) -> tuple[list[Classified], Headers]:
        """Return the predictions, and the headers that describe the rate limit if there is one."""
        if not self._traffic.models:
            return await self._classify(model, texts, caller, skip_cache)
        began = perf_counter()
        try:
            classified, headers = await self._classify(model, texts, caller, skip_cache)
        except (InputError, OverloadedError, StoreError):  # no fault of the version
            raise
        except Exception:
            self._traffic.failed(model, perf_counter() - began)
            raise
        predictions = [one.prediction for one in classified]
        self._traffic.answered(model, texts, predictions, perf_counter() - began)
        return classified, headers

    async def _classify(
        self, model: ServedModel, texts: Sequence[str], caller: Caller, skip_cache: bool
    ) -> tuple[list[Classified], Headers]:
        if self._limiter is None:
            future = self._classification.classify(model, texts, caller=caller.name, skip_cache=skip_cache)
            return await future, _NO_HEADERS
        charge = self._limiter.take(caller, texts=len(texts))
        try:
            future = self._classification.classify(model, texts, caller=caller.name, skip_cache=skip_cache)
            return await future, charge.headers
        except Exception:  # overload or a failure; a client that leaves (CancelledError) pays
            self._limiter.refund(charge)
            raise

    def body(self, text: str | None, classified: Classified, model: ServedModel) -> _Body:
        """Return the body for one text."""
        prediction = classified.prediction
        return _Body(
            text,
            prediction.scores,
            _Top(prediction.label, prediction.score),
            classified.from_cache,
            prediction.decision,
            uuid_text(classified.id),
            model.classifier.name,
            model.classifier.version,
        )


@dataclass(frozen=True)
class Prefix:
    """Where routes that classify are added, and the dependency that finds their model."""

    path: str
    suffix: str
    """Ends the names of the routes, which are the operation ids of OpenAPI."""
    model: Any
    errors: Sequence[int] = ()
    """Statuses of a model that does not exist or cannot be loaded."""


class PredictionRoutes:
    """Adds the routes that classify: those of the default model, of a named one, and of a version."""

    def __init__(
        self, router: APIRouter, predictor: Predictor, limits: RequestLimits, body: type[PredictionResponse]
    ):
        self._router, self._predictor, self._limits, self._body = router, predictor, limits, body
        self._examples = predictor.examples

    def add(self, prefix: Prefix) -> None:
        """Add `prediction` and `predictions` under a prefix."""
        self._add_single(prefix)
        self._add_list(prefix)

    def _options(self, model: Any, example: object, *statuses: int) -> dict[str, Any]:
        """Return what the routes have in common."""
        return {
            "response_model": model,
            "tags": ["classification"],
            "dependencies": [Depends(Requires(PREDICT))],
            "responses": {
                **errors(*statuses),
                200: {"content": {"application/json": {"example": example}}},
            },
        }

    def _add_single(self, prefix: Prefix) -> None:
        Text = Annotated[
            str,
            Field(max_length=self._limits.max_text_chars, description="The text to classify; may be empty."),
        ]
        Model = Annotated[Any, Depends(prefix.model)]

        class PredictionRequest(BaseModel):
            """One text to classify."""

            model_config = ConfigDict(extra="forbid", strict=True)
            text: Text
            echo_input: Annotated[bool, Field(description=_ECHO)] = False
            skip_cache: Annotated[bool, Field(description=_SKIP)] = False

        class PredictionQuery(PredictionRequest):
            """One text to classify, as query parameters."""

            model_config = ConfigDict(extra="forbid", strict=False)

        router, predictor, example = self._router, self._predictor, self._examples[0]
        documented = Body(
            openapi_examples={"text": {"value": {"text": EXAMPLE_TEXTS[0], "echo_input": True}}}
        )

        @router.post(
            f"{prefix.path}/prediction",
            name=f"classify_text{prefix.suffix}",
            summary="Classify one text",
            **self._options(self._body, example, *prefix.errors, *_BODY_ERRORS),
        )
        async def classify_text(
            query: Annotated[PredictionRequest, documented], request: Request, model: Model
        ) -> Response:
            return await predictor.one(
                query.text,
                request.scope[CALLER],
                echo_input=query.echo_input,
                skip_cache=query.skip_cache,
                model=model,
            )

        @router.get(
            f"{prefix.path}/prediction",
            name=f"classify_text_of_query{prefix.suffix}",
            summary="Classify one text given in the query",
            **self._options(self._body, example, *prefix.errors, 400, 403, 422, 503),
        )
        async def classify_text_of_query(
            query: Annotated[PredictionQuery, Query()], request: Request, model: Model
        ) -> Response:
            refuse_cross_site(request.headers)
            return await predictor.one(
                query.text,
                request.scope[CALLER],
                echo_input=query.echo_input,
                skip_cache=query.skip_cache,
                model=model,
            )

    def _add_list(self, prefix: Prefix) -> None:
        Model = Annotated[Any, Depends(prefix.model)]

        class PredictionsRequest(BaseModel):
            """Texts to classify; the predictions come in the same order."""

            model_config = ConfigDict(extra="forbid", strict=True)
            texts: Annotated[
                list[Annotated[str, Field(max_length=self._limits.max_text_chars)]],
                Field(min_length=1, max_length=self._limits.max_texts, description="The texts to classify."),
            ]
            echo_input: Annotated[bool, Field(description=_ECHO)] = True
            skip_cache: Annotated[bool, Field(description=_SKIP)] = False

        predictor, listed = self._predictor, list[self._body]  # type: ignore[name-defined]
        documented = Body(openapi_examples={"texts": {"value": {"texts": EXAMPLE_TEXTS}}})

        @self._router.post(
            f"{prefix.path}/predictions",
            name=f"classify_texts{prefix.suffix}",
            summary="Classify many texts",
            **self._options(listed, self._examples, *prefix.errors, *_BODY_ERRORS),
        )
        async def classify_texts(
            query: Annotated[PredictionsRequest, documented], request: Request, model: Model
        ) -> Response:
            return await predictor.many(
                query.texts,
                request.scope[CALLER],
                echo_input=query.echo_input,
                skip_cache=query.skip_cache,
                model=model,
            )


def add_prediction_routes(router: APIRouter, predictor: Predictor, limits: RequestLimits) -> None:
    """Add the routes of the default model; their examples are the model's own answers."""

    async def default() -> None:
        """Leave the choice to the predictor, as the fast path does."""

    body = _labelled(predictor.pool.default.classifier.labels)
    PredictionRoutes(router, predictor, limits, body).add(Prefix("", "", default))


def _labelled(labels: Sequence[str]) -> type[PredictionResponse]:
    """Return the response's model with the model's labels in its schema."""
    number = {"type": "number", "minimum": 0, "maximum": 1}
    scores = {
        "properties": dict.fromkeys(labels, number),
        "required": list(labels),
        "additionalProperties": False,
    }
    Label = Annotated[str, Field(json_schema_extra={"enum": list(labels)})]

    class Top(TopLabel):
        __doc__ = TopLabel.__doc__
        label: Label

    class PredictionBody(PredictionResponse):
        __doc__ = PredictionResponse.__doc__
        prediction: Annotated[
            dict[str, float], Field(description="The probability of every label.", json_schema_extra=scores)
        ]
        top: Top
        decision: Annotated[Label, Field(description="The label at the model's operating point.")]

    return PredictionBody


def refuse_cross_site(headers: Mapping[str, str]) -> None:
    """Refuse what a browser sends for a page of another site: it would be logged as its visitor's call.

    A POST needs no such check: JSON from another site needs a preflight request, which is not answered.
    """
    if headers.get("sec-fetch-site") == "cross-site":
        message = "a page of another site may not send this request (header `sec-fetch-site`); use POST"
        raise InputError("cross_site", message, field="sec-fetch-site")
