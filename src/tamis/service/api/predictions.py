"""The routes that classify: `/prediction` and `/predictions`; `Predictor` makes their responses."""

# No `from __future__ import annotations`: the models of a router are local classes, which FastAPI
# could not find by their names.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from tamis.errors import InputError
from tamis.service.api.browsers_and_proxies import IS_ALLOWED_ORIGIN
from tamis.service.api.line_stream import UnusedLineQuery, add_line_route, line_documentation
from tamis.service.api.predictor import EXAMPLE_TEXTS, Predictor
from tamis.service.api.route import RequestLimits, Requires, described_415, errors
from tamis.service.bodies import PredictionResponse, TopLabel
from tamis.service.security.client_identity import CALLER, PREDICT

_ECHO = "Return the text as `input`, which is null otherwise."
_BODY_ERRORS = (400, 413, 415, 422, 503)
_SKIP = "Skip reading the prediction cache; the fresh answer is stored all the same."


@dataclass(frozen=True)
class Prefix:
    """A path prefix of the routes that classify, and the dependency that finds their model."""

    path: str
    suffix: str
    """Suffix of the route names, which are the operation ids of OpenAPI."""
    model: Any
    errors: Sequence[int] = ()
    """Statuses of a model that does not exist or cannot be loaded."""


class _SingleText(BaseModel):
    """A request without the limit of this service."""

    # strict and without unknown fields: a misspelt option or a number for a text is an error, not a guess
    model_config = ConfigDict(extra="forbid", strict=True)
    text: str
    echo_input: Annotated[bool, Field(description=_ECHO)] = False
    skip_cache: Annotated[bool, Field(description=_SKIP)] = False


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
        """Return the options that the routes have in common."""
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

        # local classes: the limits are those of this service, and the documentation shows them
        class PredictionRequest(_SingleText):
            """One text to classify."""

            text: Text

        class PredictionQuery(PredictionRequest):
            """One text to classify, as query parameters."""

            # not strict: every query parameter arrives as a string
            model_config = ConfigDict(extra="forbid", strict=False)

        router, example = self._router, self._examples[0]
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
            return await self._classify(query, request, model)

        @router.get(
            f"{prefix.path}/prediction",
            name=f"classify_text_of_query{prefix.suffix}",
            summary="Classify one text given in the query",
            **self._options(self._body, example, *prefix.errors, 400, 403, 422, 503),
        )
        async def classify_text_of_query(
            query: Annotated[PredictionQuery, Query()], request: Request, model: Model
        ) -> Response:
            refuse_cross_site(request)  # a link or an image of another page can cause a GET
            return await self._classify(query, request, model)

    async def _classify(self, query: _SingleText, request: Request, model: Any) -> Response:
        return await self._predictor.one(
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
        path, name = f"{prefix.path}/predictions", f"classify_lines{prefix.suffix}"
        # first: the router takes the first match, and this route matches only the media types of lines
        add_line_route(self._router, path, predictor, self._limits, name=name, model=prefix.model)
        options = self._options(listed, self._examples, *prefix.errors, *_BODY_ERRORS)
        for media_type in ("application/x-ndjson", "text/csv"):
            options["responses"][200]["content"][media_type] = {"schema": {"type": "string"}}
        options["responses"][415]["description"] = described_415("JSON, NDJSON or CSV")

        @self._router.post(
            path,
            name=f"classify_texts{prefix.suffix}",
            summary="Classify many texts: a list, or lines of any number",
            openapi_extra=line_documentation(),
            **options,
        )
        async def classify_texts(
            query: Annotated[PredictionsRequest, documented],
            request: Request,
            model: Model,
            lines: Annotated[UnusedLineQuery, Query()],
        ) -> Response:
            return await predictor.many(
                query.texts,
                request.scope[CALLER],
                echo_input=query.echo_input,
                skip_cache=query.skip_cache,
                model=model,
            )


def add_prediction_routes(router: APIRouter, predictor: Predictor, limits: RequestLimits) -> None:
    """Add the routes of the default model; their examples are predictions of this model."""

    async def default() -> None:
        """Leave the choice to the predictor, as the fast path does."""

    body = _labelled(predictor.pool.default.classifier.labels)
    PredictionRoutes(router, predictor, limits, body).add(Prefix("", "", default))


def _labelled(labels: Sequence[str]) -> type[PredictionResponse]:
    """Return the response class with the model's labels in its schema."""
    number = {"type": "number", "minimum": 0, "maximum": 1}
    scores = {
        "properties": dict.fromkeys(labels, number),
        "required": list(labels),
        "additionalProperties": False,
    }
    Label = Annotated[str, Field(json_schema_extra={"enum": list(labels)})]

    # pydantic shows a class's docstring; a subclass does not inherit it
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


def refuse_cross_site(request: Request) -> None:
    """Refuse a request that a browser sends for a page of another site, except of TAMIS_CORS_ORIGINS.

    It would be logged as a call of the page's visitor. A POST needs no such check: JSON from another site
    needs a preflight request, which succeeds for those origins only.
    """
    is_cross_site = request.headers.get("sec-fetch-site") == "cross-site"
    if is_cross_site and IS_ALLOWED_ORIGIN not in request.scope:
        message = "a page of another site may not send this request (header `sec-fetch-site`); use POST"
        raise InputError("cross_site", message, field="sec-fetch-site")
