"""Hugging Face's Inference API and endpoints, task `text-classification`.

The response is nested even for one text: its clients take the first element as the list of labels.
"""

from __future__ import annotations

from math import log
from sys import float_info
from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Answer, Dialect, DialectRequest, TextQuery
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.dialects.text_embeddings import LabelScore, add_info
from tamis.service.responses import ErrorResponse, json_response
from tamis.service.security.client_identity import OPEN

HuggingFaceResponse = list[list[LabelScore]]


class ClassificationParameters(TolerantBody):
    """How to answer."""

    top_k: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="The number of labels; default: all.")
    ] = None
    function_to_apply: Annotated[
        Literal["sigmoid", "softmax", "none"] | None,
        Field(description="`none`: logarithms of the probabilities; otherwise the probabilities."),
    ] = None


_DEFAULTS = ClassificationParameters()


class TextClassificationBody(TolerantBody):
    """Texts to classify."""

    inputs: str | Texts
    parameters: ClassificationParameters | None = None


class HuggingFaceError(BaseModel):
    """An error."""

    error: str


class HuggingFace(Dialect):
    """One list of labels per text, nested also for one text."""

    name = "hf"
    title = "Hugging Face Inference"
    description = "For `InferenceClient` (Python) and `@huggingface/inference` (JavaScript)."
    error_model = HuggingFaceError

    def encode_error(self, error: ErrorResponse) -> ErrorResponse:
        """Return the error as the Inference API has it."""
        return error.rendered(error.status_code, {"error": error.message})

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/hf` and `/hf/models/{model}`, each with the two routes that a client adds to its address."""
        example = {"inputs": EXAMPLE_TEXTS[0], "parameters": {"top_k": 1}}
        for path in ("/hf", "/hf/models/{model:model}"):
            routes.classify(
                path, TextClassificationBody, HuggingFaceResponse, summary="Classify", example=example
            )
            add_info(routes, f"{path}/info")

            @routes.get(f"{path}/health", None, summary="Health", access=OPEN, response_class=Response)
            async def health(request: Request) -> Response:
                return Response(status_code=503 if routes.service.is_draining(request.scope) else 200)

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts."""
        body: TextClassificationBody = request.body
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        return TextQuery(texts, "inputs", request.path.get("model"))

    def encode(self, request: DialectRequest, answer: Answer) -> Response:
        """Return the most probable labels of every text."""
        parameters = request.body.parameters or _DEFAULTS
        is_raw = parameters.function_to_apply == "none"
        return json_response(
            [
                [
                    {"label": label, "score": log(max(score, float_info.min)) if is_raw else score}
                    for label, score in answer.ranked(index)[: parameters.top_k]
                ]
                for index in range(len(answer.texts))
            ]
        )
