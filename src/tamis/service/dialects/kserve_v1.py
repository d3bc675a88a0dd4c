"""The V1 protocol of KServe and TensorFlow Serving: `instances` in, `predictions` out."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Dialect, DialectRequest, QueryResult, TextQuery
from tamis.service.dialects.bodies import TolerantBody
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.responses import json_response


# the protocol lets the model define an instance: a text, or an object, as TensorFlow's clients send it
class TextInstance(TolerantBody):
    """A text as the named input of a TensorFlow signature."""

    text: str


class InstancesBody(TolerantBody):
    """Texts to classify."""

    instances: Annotated[list[str | TextInstance], Field(fail_fast=True)]


class V1Prediction(BaseModel):
    """The prediction for one text."""

    label: str
    score: Annotated[float, Field(description="The probability of `label`.")]
    decision: Annotated[str, Field(description="The label at the model's operating point.")]
    scores: dict[str, float]


class V1Predictions(BaseModel):
    """The predictions, in the order of the instances."""

    predictions: list[V1Prediction]


class V1Model(BaseModel):
    """A model: `name` and `ready` for KServe's clients, the other fields for OpenAI's."""

    name: str
    ready: bool
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class V1Models(BaseModel):
    """The loaded models: their names for KServe's clients, `data` for OpenAI's."""

    object: Literal["list"]
    data: list[V1Model]
    models: list[str]


class V1Error(BaseModel):
    """An error."""

    error: str


class KServeV1(Dialect):
    """V1: instances in, predictions out."""

    name = "v1"
    title = "KServe V1"
    description = "For clients of KServe's first protocol and of TensorFlow Serving."
    error_model = V1Error
    invalid_body_status = 400

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `:predict` and the description of the models."""
        example = {"instances": EXAMPLE_TEXTS}
        path = "/v1/models/{model:model}:predict"
        routes.classify(path, InstancesBody, V1Predictions, summary="Classify", example=example)
        add_model_routes(routes)

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of the instances."""
        body: InstancesBody = request.body
        texts = [item if isinstance(item, str) else item.text for item in body.instances]
        return TextQuery(texts, "instances", request.path["model"])

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the predictions."""
        return json_response(predictions_body(result))


def add_model_routes(routes: DialectRoutes) -> None:
    """Add `/v1/models` and `/v1/models/{model}` with the fields of V1 and OpenAI, which share the paths."""
    service = routes.service

    def described(name: str) -> dict[str, object]:
        created = int(service.started_at.timestamp())  # OpenAI's clients expect whole seconds
        openai = {"id": name, "object": "model", "created": created, "owned_by": "tamis"}
        return {"name": name, "ready": True, **openai}

    @routes.get("/v1/models", V1Models, summary="Models")
    async def models() -> Response:
        # only loaded models, because every item has `ready` true
        names = [entry.name for entry in service.pool.entries.values() if entry.loaded]
        data = [described(name) for name in names]
        return json_response({"object": "list", "data": data, "models": names})

    @routes.get("/v1/models/{model:model}", V1Model, summary="Model")
    async def model(request: Request) -> Response:
        # `resolve` loads a lazy model, so `ready` is true
        return json_response(described((await service.resolve(request.path_params["model"])).name))


def predictions_body(result: QueryResult) -> dict[str, object]:
    """Return the body that `V1Predictions` documents."""
    return {
        "predictions": [
            {"label": one.label, "score": one.score, "decision": one.decision, "scores": one.scores}
            for one in result.predictions
        ]
    }
