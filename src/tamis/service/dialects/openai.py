"""vLLM's `/classify` and OpenAI's `/v1/moderations`.

Moderation is the only kind of classification in OpenAI's API; its categories are the model's labels.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Dialect, DialectRequest, QueryResult, TextQuery
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.kserve_v1 import add_model_routes
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.responses import ErrorResponse, json_response


class TextPart(TolerantBody):
    """A part of the input, of type text."""

    type: Literal["text"]
    text: str


class ClassifyBody(TolerantBody):
    """Texts to classify; `model` is `name`, `name@version` or `name@alias`, by default the default model."""

    model: str | None = None
    input: str | Texts


# parts of the other type, images, fail validation
class ModerationsBody(TolerantBody):
    """Texts to moderate."""

    model: str | None = None
    input: str | Annotated[list[str | TextPart], Field(fail_fast=True)]


class ClassifiedItem(BaseModel):
    """The prediction for one text; `probs` are in the order of the model's labels."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class Usage(BaseModel):
    """Numbers of words, in the fields for numbers of tokens."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int


class ClassifyResponse(BaseModel):
    """The predictions, in the order of the texts."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ClassifiedItem]
    usage: Usage


class ModerationResult(BaseModel):
    """One text: its categories are the model's labels."""

    flagged: Annotated[bool, Field(description="Whether it has the positive label at the operating point.")]
    categories: dict[str, bool]
    category_scores: dict[str, float]


class ModerationsResponse(BaseModel):
    """The results, in the order of the texts."""

    id: str
    model: str
    results: list[ModerationResult]


class OpenAiErrorFields(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAiError(BaseModel):
    """An error."""

    error: OpenAiErrorFields


class OpenAi(Dialect):
    """vLLM's classification and OpenAI's moderation."""

    name = "openai"
    title = "OpenAI and vLLM"
    description = "For the `openai` client and clients of vLLM's and SGLang's classification."
    error_model = OpenAiError

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return OpenAI's envelope."""
        error_type = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": error.message, "type": error_type, "param": None, "code": error.code}}

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/classify`, `/v1/classify`, `/v1/moderations` and the models."""
        example = {"input": EXAMPLE_TEXTS}
        for path in ("/classify", "/v1/classify"):
            routes.classify(path, ClassifyBody, ClassifyResponse, summary="Classify", example=example)
        routes.classify(
            "/v1/moderations", ModerationsBody, ModerationsResponse, summary="Moderate", example=example
        )
        add_model_routes(routes)

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts."""
        given: str | list[str | TextPart] = request.body.input
        parts = [given] if isinstance(given, str) else given
        texts = [part if isinstance(part, str) else part.text for part in parts]
        return TextQuery(texts, "input", request.body.model)

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the predictions as the response of the route."""
        # each route has a body class of its own
        is_moderation = request.model is ModerationsBody
        return json_response(_moderations(result) if is_moderation else _classification(result))


def _classification(result: QueryResult) -> dict[str, object]:
    """Return the body that `ClassifyResponse` documents."""
    labels, words = result.model.labels, result.word_count
    data = [
        {"index": index, "label": one.label, "probs": [*one.scores.values()], "num_classes": len(labels)}
        for index, one in enumerate(result.predictions)
    ]
    # required, because clients add them up
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    return {
        # as in vLLM an id for the request; those of the predictions are in the call log
        "id": f"classify-{os.urandom(16).hex()}",
        "object": "list",
        "created": result.created_at,
        "model": result.model.name,
        "data": data,
        "usage": usage,
    }


def _moderations(result: QueryResult) -> dict[str, object]:
    """Return the body that `ModerationsResponse` documents; without a positive label nothing is flagged."""
    manifest = result.model.manifest
    point = manifest.operating_point if manifest else None
    results = []
    for prediction in result.predictions:
        categories = {label: label == prediction.decision for label in result.model.labels}
        flagged = point is not None and prediction.decision == point.positive
        results.append({"flagged": flagged, "categories": categories, "category_scores": prediction.scores})
    return {"id": f"modr-{os.urandom(16).hex()}", "model": result.model.name, "results": results}
