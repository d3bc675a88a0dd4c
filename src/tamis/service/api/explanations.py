"""`POST /explanation`: what each token of a text contributes to the prediction.

The text is classified first, as by `/prediction`: it is logged, counted by the rate limit, and refused if the
service is overloaded. One thread per process explains, so that predictions keep the other processors.
"""

# No `from __future__ import annotations`: the models of a router are local classes, which FastAPI
# could not find by their names.
import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from tamis.errors import InputError, OverloadedError
from tamis.inference.classifier import Classifier
from tamis.inference.served_model import ServedModel
from tamis.service.api.application import Application
from tamis.service.api.models import ModelName, Version
from tamis.service.api.predictor import EXAMPLE_TEXTS, Predictor
from tamis.service.api.route import RequestLimits, Requires, errors
from tamis.service.bodies import ExplanationResponse
from tamis.service.responses import BytesResponse, json_response
from tamis.service.security.client_identity import CALLER, PREDICT, Caller

_MAX_WAITING = 16
"""Explanations that wait or run in one process; more are refused as overload."""

_MAX_OCCLUSION_CHARS = 2_000_000
"""A network reads the text once per token: a second or two of processor time at most."""


class Explainer:
    """Explains predictions in a thread of its own, a bounded number at a time."""

    def __init__(self, predictor: Predictor):
        self._predictor = predictor
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tamis-explain")
        self._waiting = 0

    async def explain(
        self, text: str, label: str | None, caller: Caller, model: ServedModel
    ) -> BytesResponse:
        """Return the response with the contribution of every token to `label`, by default the top one.

        Raises InputError for an unknown label or a text that would take too long, OverloadedError if too
        many explanations wait.
        """
        classifier = model.classifier
        _check(text, label, classifier)
        if self._waiting >= _MAX_WAITING:
            raise OverloadedError(1)
        self._waiting += 1
        try:
            [classified], headers = await self._predictor.classify(model, [text], caller)
            explained = label if label is not None else classified.prediction.label
            explanation = await asyncio.get_running_loop().run_in_executor(
                self._thread, classifier.explain, text, explained
            )
        finally:
            self._waiting -= 1
        return json_response(explanation, headers=headers)


def _check(text: str, label: str | None, classifier: Classifier) -> None:
    if label is not None and label not in classifier.labels:
        raise InputError(
            "unknown_label", "`label` is not a label of the model; see GET /model", field="label"
        )
    if classifier.is_heavy and (len(text.split()) + 2) * len(text) > _MAX_OCCLUSION_CHARS:
        message = "`text` is too long to be explained by this model, which reads it once per word; shorten it"
        raise InputError("text_too_long", message, field="text")


def add_explanation_route(app: Application, predictor: Predictor, limits: RequestLimits) -> None:
    """Add `POST /explanation`, answered by the default model."""
    pool = predictor.pool

    class ExplanationRequest(BaseModel):
        """A text, and the label to explain."""

        model_config = ConfigDict(extra="forbid", strict=True)
        text: Annotated[
            str, Field(max_length=limits.max_text_chars, description="The text to explain; may be empty.")
        ]
        label: Annotated[
            str | None,
            Field(
                description="One of the model's labels; null for the most probable one.",
                json_schema_extra={"enum": [*pool.default.classifier.labels, None]},
            ),
        ] = None

    explainer = Explainer(predictor)
    documented = Body(openapi_examples={"text": {"value": {"text": EXAMPLE_TEXTS[0], "label": None}}})
    app.examples["/explanation"] = lambda: to_builtins(pool.default.classifier.explain(EXAMPLE_TEXTS[0]))

    @app.router.post(
        "/explanation",
        name="explain_text",
        summary="Explain a prediction",
        response_model=ExplanationResponse,
        tags=["classification"],
        dependencies=[Depends(Requires(PREDICT))],
        responses={**errors(400, 413, 415, 422, 503), 200: {"content": {"application/json": {}}}},
    )
    async def explain_text(query: Annotated[ExplanationRequest, documented], request: Request) -> Response:
        caller = request.scope[CALLER]
        model = predictor.answering(pool.default, caller)
        return await explainer.explain(query.text, query.label, caller, model)

    async def named(model: ModelName, request: Request) -> ServedModel:
        name, _, alias = model.partition("@")
        served = await pool.resolve(name, alias=alias or None)
        return served if alias else predictor.answering(served, request.scope[CALLER])

    async def versioned(model: ModelName, version: Version) -> ServedModel:
        return await pool.resolve(model, version)

    for prefix, suffix, find in (
        ("/models/{model}", "_by_model", named),
        ("/models/{model}/versions/{version}", "_by_version", versioned),
    ):
        _add_named(app.router, explainer, prefix, suffix, find=find, limits=limits)


def _add_named(
    router: APIRouter,
    explainer: Explainer,
    prefix: str,
    suffix: str,
    *,
    find: Callable[..., Awaitable[ServedModel]],
    limits: RequestLimits,
) -> None:
    """Add the route of one model or version, whose labels are known when it is asked."""

    class NamedExplanationRequest(BaseModel):
        """A text, and which label to explain."""

        model_config = ConfigDict(extra="forbid", strict=True)
        text: Annotated[
            str, Field(max_length=limits.max_text_chars, description="The text to explain; may be empty.")
        ]
        label: Annotated[
            str | None, Field(description="One of the model's labels; null for the most probable one.")
        ] = None

    documented = Body(openapi_examples={"text": {"value": {"text": EXAMPLE_TEXTS[0], "label": None}}})

    @router.post(
        f"{prefix}/explanation",
        name=f"explain_text{suffix}",
        summary="Explain a prediction",
        response_model=ExplanationResponse,
        tags=["classification"],
        dependencies=[Depends(Requires(PREDICT))],
        responses=errors(400, 404, 413, 415, 422, 503),
    )
    async def explain_text(
        query: Annotated[NamedExplanationRequest, documented],
        request: Request,
        model: Annotated[Any, Depends(find)],
    ) -> Response:
        return await explainer.explain(query.text, query.label, request.scope[CALLER], model)
