"""Hugging Face's formats: Text Embeddings Inference (TEI) and the Inference API.

TEI's routes are those of a sequence classifier, the Inference API's those of the task `text-classification`.
One route cannot serve both: for a single text TEI returns a flat list of labels, the Inference API a nested
one, whose clients take the first element as the list of labels.
"""

from __future__ import annotations

from math import log
from sys import float_info
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis import __version__
from tamis.errors import InputError
from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Dialect, DialectRequest, QueryResult, TextQuery
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.http import is_draining
from tamis.service.responses import ErrorResponse, Headers, json_response
from tamis.service.security.client_identity import OPEN

# a tokenizer joins the texts of a pair into one input; scoring them separately would be wrong, and unnoticed
_PAIR_MESSAGE = (
    "`inputs` is a list of texts, which TEI takes as one pair of texts; this model classifies single texts: "
    'send a batch as [["first"], ["second"]]'
)
_ERROR_TYPES = {
    "no_texts": "Empty",
    "overloaded": "Overloaded",
    "rate_limited": "Overloaded",
    "internal_error": "Backend",
    "store_unavailable": "Unhealthy",
}
# as in TEI's source, from which its documentation differs
_ERROR_STATUSES = {
    "no_texts": 400,
    "overloaded": 429,
    "internal_error": 424,
    "not_json": 422,
    "duplicate_field": 422,
}

Sequences = Annotated[list[str | Texts], Field(fail_fast=True)]


class PredictBody(TolerantBody):
    """Texts to classify."""

    inputs: Annotated[
        str | Sequences, Field(description='One text, or a batch of lists of one text each: [["a"], ["b"]].')
    ]
    truncate: Annotated[bool | None, Field(description="Cut texts that are too long.")] = False
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    raw_scores: Annotated[bool, Field(description="Return logarithms of the probabilities.")] = False


class LabelScore(BaseModel):
    """One label and its score."""

    score: float
    label: str


PredictResponse = list[LabelScore] | list[list[LabelScore]]


class EmbeddingsError(BaseModel):
    """An error."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TextEmbeddings(Dialect):
    """TEI: a flat list for one text, a list of lists for a batch."""

    name = "tei"
    title = "Text Embeddings Inference"
    description = "For clients of Hugging Face's TEI."
    error_model = EmbeddingsError

    def error_status(self, code: str, status: int) -> int:
        """Return TEI's status."""
        return _ERROR_STATUSES.get(code, status)

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return TEI's envelope."""
        return {"error": error.message, "error_type": _ERROR_TYPES.get(error.code, "Validation")}

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/predict`, `POST /` and `/info`."""
        example = {"inputs": [[text] for text in EXAMPLE_TEXTS]}
        for path in ("/predict", "/"):  # TEI's root is an alias of the route for its kind of model
            routes.classify(path, PredictBody, PredictResponse, summary="Classify", example=example)
        add_info(routes, "/info")

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts, truncated if the request says so."""
        body: PredictBody = request.body
        texts, limit = _texts(body.inputs), request.limits.max_text_chars
        if body.truncate:  # to characters, not tokens, because a linear model has no tokenizer
            is_left = body.truncation_direction.lower() == "left"
            texts = [text[-limit:] if is_left else text[:limit] for text in texts]
        return TextQuery(texts, "inputs")

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the labels with their scores, most probable first."""
        body: PredictBody = request.body
        items = [
            [
                {"score": _log_probability(score) if body.raw_scores else score, "label": label}
                for label, score in ranked
            ]
            for ranked in map(result.ranked, range(len(result.texts)))
        ]
        # in TEI ["text"] is a single text, [["text"]] a batch of one
        is_batch = isinstance(body.inputs, list) and not isinstance(body.inputs[0], str)
        return json_response(items if is_batch else items[0], headers=_headers(result))


def add_info(routes: DialectRoutes, path: str) -> None:
    """Add TEI's description of the model and the limits at a path."""

    @routes.get(path, dict[str, Any], summary="Model and limits")
    async def info(request: Request) -> Response:
        model = (await routes.service.resolve(request.path_params.get("model"))).classifier
        limits = routes.service.limits
        ids = {str(index): label for index, label in enumerate(model.labels)}
        classifier = {"id2label": ids, "label2id": {label: int(index) for index, label in ids.items()}}
        return json_response(
            {
                "model_id": model.name,
                "model_sha": model.identity,
                "model_dtype": "float64",
                "served_model_name": model.name,
                "model_type": {"classifier": classifier},
                "max_input_length": limits.max_text_chars,
                "max_client_batch_size": limits.max_texts,
                "auto_truncate": False,
                "version": __version__,
            }
        )


def _texts(inputs: str | list[str | list[str]]) -> list[str]:
    """Return the texts of `inputs`; raise InputError for pairs of texts."""
    if isinstance(inputs, str):
        return [inputs]
    if inputs and isinstance(inputs[0], str):
        if len(inputs) > 1:
            raise InputError("wrong_type", _PAIR_MESSAGE, field="inputs")
        return [inputs[0]]
    for index, item in enumerate(inputs):
        if isinstance(item, list) and len(item) != 1:
            message = f"`inputs[{index}]` must contain exactly one text: this model does not classify pairs"
            raise InputError("wrong_type", message, field=f"inputs[{index}]")
    return [item if isinstance(item, str) else item[0] for item in inputs]


def _log_probability(score: float) -> float:
    """Return the logarithm of a probability; the softmax of a text's logarithms is its probabilities."""
    # a probability can underflow to 0, and JSON has no infinity
    return log(max(score, float_info.min))


def _headers(result: QueryResult) -> Headers:
    # clients may read any of TEI's times; all have the one that is measured
    milliseconds = b"%d" % round(result.seconds * 1_000)
    return [
        (b"x-compute-type", b"cpu"),
        (b"x-compute-characters", b"%d" % sum(map(len, result.texts))),
        (b"x-compute-tokens", b"%d" % result.word_count),
        (b"x-compute-time", milliseconds),
        (b"x-total-time", milliseconds),
        (b"x-inference-time", milliseconds),
    ]


HuggingFaceResponse = list[list[LabelScore]]


class ClassificationParameters(TolerantBody):
    """Options of the response."""

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

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/hf` and `/hf/models/{model}`, with the paths that `InferenceClient` appends to its URL."""
        example = {"inputs": EXAMPLE_TEXTS[0], "parameters": {"top_k": 1}}
        for path in ("/hf", "/hf/models/{model:model}"):
            routes.classify(
                path, TextClassificationBody, HuggingFaceResponse, summary="Classify", example=example
            )
            add_info(routes, f"{path}/info")

            # without a key, like the native health checks, because load balancers have none
            @routes.get(f"{path}/health", None, summary="Health", access=OPEN, response_class=Response)
            async def health(request: Request) -> Response:
                return Response(status_code=503 if is_draining(request.scope) else 200)

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts."""
        body: TextClassificationBody = request.body
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        return TextQuery(texts, "inputs", request.path.get("model"))

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the most probable labels of every text."""
        parameters = request.body.parameters or _DEFAULTS
        is_raw = parameters.function_to_apply == "none"
        items = [
            [
                {"label": label, "score": _log_probability(score) if is_raw else score}
                for label, score in result.ranked(index)[: parameters.top_k]
            ]
            for index in range(len(result.texts))
        ]
        return json_response(items)
