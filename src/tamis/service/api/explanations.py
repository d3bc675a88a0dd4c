"""`POST /explanation`: the contribution of each token of a text to the prediction.

The text is classified first, as by `/prediction`: it is logged, counted by the rate limit, and refused if the
service is overloaded. One thread per process explains, so that predictions keep the other processors.
"""

# No `from __future__ import annotations`: the models of a router are local classes, which FastAPI
# could not find by their names.
import asyncio
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
from tamis.service.api.models import model_prefixes
from tamis.service.api.predictions import Prefix
from tamis.service.api.predictor import EXAMPLE_TEXTS, Predictor
from tamis.service.api.route import RequestLimits, Requires, Responses, errors
from tamis.service.bodies import ExplanationResponse
from tamis.service.responses import BytesResponse, json_response
from tamis.service.security.client_identity import CALLER, PREDICT, Caller

_MAX_WAITING = 16
"""Explanations that wait or run in one process; more are refused as overload."""

_MAX_OCCLUSION_CHARS = 2_000_000
"""A network reads the text once per token: a second or two of processor time at most."""


class Explainer:
    """Explains predictions in one thread; the number that wait is bounded."""

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
        self._waiting += 1  # before the first await: later requests of this iteration must see it
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
    # occlusion scores the text, the empty text, and the text without each word
    if classifier.is_heavy and (len(text.split()) + 2) * len(text) > _MAX_OCCLUSION_CHARS:
        message = "`text` is too long to be explained by this model, which reads it once per word; shorten it"
        raise InputError("text_too_long", message, field="text")


def add_explanation_routes(app: Application, predictor: Predictor, limits: RequestLimits) -> None:
    """Add `POST /explanation`, answered by the default model, and those of a named model and of a version."""
    pool = predictor.pool

    class NamedExplanationRequest(BaseModel):
        """A text, and which label to explain."""

        model_config = ConfigDict(extra="forbid", strict=True)
        text: Annotated[
            str, Field(max_length=limits.max_text_chars, description="The text to explain; may be empty.")
        ]
        label: Annotated[
            str | None, Field(description="One of the model's labels; null for the most probable one.")
        ] = None

    class ExplanationRequest(NamedExplanationRequest):
        """A text, and the label to explain."""

        # only the default model is known now; the labels of the others are checked by `_check`
        label: Annotated[
            str | None,
            Field(
                description="One of the model's labels; null for the most probable one.",
                json_schema_extra={"enum": [*pool.default.classifier.labels, None]},
            ),
        ] = None

    async def default(request: Request) -> ServedModel:
        return predictor.answering(pool.default, request.scope[CALLER])

    explainer = Explainer(predictor)
    # made with the OpenAPI document: explaining at every start would delay it
    app.examples["/explanation"] = lambda: to_builtins(pool.default.classifier.explain(EXAMPLE_TEXTS[0]))
    _add_route(app.router, explainer, Prefix("", "", default), ExplanationRequest)
    for prefix in model_prefixes(predictor):
        _add_route(app.router, explainer, prefix, NamedExplanationRequest)


def _add_route(router: APIRouter, explainer: Explainer, prefix: Prefix, body: type[BaseModel]) -> None:
    documented = Body(openapi_examples={"text": {"value": {"text": EXAMPLE_TEXTS[0], "label": None}}})
    # `Application.openapi` adds the example of the default model to this
    described: Responses = {200: {"content": {"application/json": {}}}} if not prefix.path else {}

    @router.post(
        f"{prefix.path}/explanation",
        name=f"explain_text{prefix.suffix}",
        summary="Explain a prediction",
        response_model=ExplanationResponse,
        tags=["classification"],
        dependencies=[Depends(Requires(PREDICT))],
        responses={**errors(*prefix.errors, 400, 413, 415, 422, 503), **described},
    )
    async def explain_text(
        query: Annotated[body, documented],  # type: ignore[valid-type]
        request: Request,
        model: Annotated[Any, Depends(prefix.model)],
    ) -> Response:
        asked: Any = query
        return await explainer.explain(asked.text, asked.label, request.scope[CALLER], model)
