"""vLLM's `/classify` and OpenAI's `/v1/moderations`.

Moderation is the only classification that the `openai` client library has, so its categories are the labels.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Answer, Dialect, DialectRequest, TextQuery
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.hugging_face import word_count
from tamis.service.dialects.kserve_v1 import add_model_routes
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.responses import ErrorResponse, json_response


class TextPart(TolerantBody):
    """A text of a list of parts of several types."""

    type: Literal["text"]
    text: str


class ClassifyBody(TolerantBody):
    """Texts to classify; `model` is `name`, `name@version` or `name@alias`, by default the first one."""

    model: str | None = None
    input: str | Texts


# images, the other type of part, have no text to classify and fail validation
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
    """The number of words, as a client of vLLM reads the number of tokens."""

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
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": error.message, "type": kind, "param": None, "code": error.code}}

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
        texts = [one if isinstance(one, str) else one.text for one in parts]
        return TextQuery(texts, "input", request.body.model)

    def encode(self, request: DialectRequest, answer: Answer) -> Response:
        """Return the predictions as the route of the body has them."""
        # dialects are stateless: the class of the body tells which route it was
        is_moderation = request.model is ModerationsBody
        return json_response(_moderations(answer) if is_moderation else _classification(answer))


def _classification(answer: Answer) -> dict[str, object]:
    labels, words = answer.model.labels, word_count(answer)
    data = [
        {"index": index, "label": one.label, "probs": [*one.scores.values()], "num_classes": len(labels)}
        for index, one in enumerate(one.prediction for one in answer.classified)
    ]
    # clients sum these fields for their statistics; words stand in for tokens
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    return {
        # one id for the request, as vLLM has it; the ids of the predictions are in the call log
        "id": f"classify-{os.urandom(16).hex()}",
        "object": "list",
        "created": answer.created_at,
        "model": answer.model.name,
        "data": data,
        "usage": usage,
    }


def _moderations(answer: Answer) -> dict[str, object]:
    """Return the moderations; a model without an operating point has no positive label and flags nothing."""
    manifest = answer.model.manifest
    point = manifest.operating_point if manifest else None
    results = []
    for prediction in (one.prediction for one in answer.classified):
        categories = {label: label == prediction.decision for label in answer.model.labels}
        flagged = point is not None and prediction.decision == point.positive
        results.append({"flagged": flagged, "categories": categories, "category_scores": prediction.scores})
    return {"id": f"modr-{os.urandom(16).hex()}", "model": answer.model.name, "results": results}
