"""Hugging Face's formats: Text Embeddings Inference (TEI) and the Inference API.

From TEI the routes of a sequence classifier, from the Inference API and its endpoints the task
`text-classification`. Each format needs its own routes: for a single text TEI returns a flat list of labels,
the Inference API a nested one, whose clients take the first element as the list of labels.
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
from tamis.service.dialects.base import Answer, Dialect, DialectRequest, TextQuery
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.responses import ErrorResponse, Headers, json_response
from tamis.service.security.client_identity import OPEN

# a tokenizer would join the two texts of a pair into one input; silently scoring them apart would be wrong
_PAIR = (
    "`inputs` is a list of texts, which TEI takes as one pair of texts; this model classifies single texts: "
    'send a batch as [["first"], ["second"]]'
)
_TYPES = {
    "no_texts": "Empty",
    "overloaded": "Overloaded",
    "rate_limited": "Overloaded",
    "internal_error": "Backend",
    "store_unavailable": "Unhealthy",
}
# as TEI's source has them; its documentation differs in places
_STATUSES = {
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
    truncation_direction: Annotated[Literal["left", "right", "Left", "Right"], Field()] = "right"
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

    def status(self, code: str, status: int) -> int:
        """Return TEI's status."""
        return _STATUSES.get(code, status)

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return TEI's envelope."""
        return {"error": error.message, "error_type": _TYPES.get(error.code, "Validation")}

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/predict`, `POST /` and `/info`."""
        example = {"inputs": [[text] for text in EXAMPLE_TEXTS]}
        for path in ("/predict", "/"):  # TEI's root is an alias of the route that fits its model
            routes.classify(path, PredictBody, PredictResponse, summary="Classify", example=example)
        add_info(routes, "/info")

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts; a text that is too long is cut if the request asks for it."""
        body: PredictBody = request.body
        texts, limit = _texts(body.inputs), request.limits.max_text_chars
        if body.truncate:  # by characters instead of tokens: a linear model has no tokenizer
            is_left = body.truncation_direction.lower() == "left"
            texts = [text[-limit:] if is_left else text[:limit] for text in texts]
        return TextQuery(texts, "inputs")

    def encode(self, request: DialectRequest, answer: Answer) -> Response:
        """Return the labels with their scores, most probable first."""
        body: PredictBody = request.body
        found = [
            [{"score": _raw(score) if body.raw_scores else score, "label": label} for label, score in labels]
            for labels in map(answer.ranked, range(len(answer.texts)))
        ]
        # ["text"] is TEI's single text, [["text"]] a batch of one
        is_batch = isinstance(body.inputs, list) and not isinstance(body.inputs[0], str)
        return json_response(found if is_batch else found[0], headers=_headers(answer))


def add_info(routes: DialectRoutes, path: str) -> None:
    """Add TEI's description of the service at a path."""

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
    if isinstance(inputs, str):
        return [inputs]
    if inputs and isinstance(inputs[0], str):
        if len(inputs) > 1:
            raise InputError("wrong_type", _PAIR, field="inputs")
        return [inputs[0]]
    for index, one in enumerate(inputs):
        if isinstance(one, list) and len(one) != 1:
            message = f"`inputs[{index}]` must contain exactly one text: this model does not classify pairs"
            raise InputError("wrong_type", message, field=f"inputs[{index}]")
    return [one if isinstance(one, str) else one[0] for one in inputs]


def _raw(score: float) -> float:
    """Return a logit: the softmax of these gives the probabilities."""
    # a probability can underflow to 0, whose logarithm is not a number in JSON
    return log(max(score, float_info.min))


def _headers(answer: Answer) -> Headers:
    # TEI's own time headers, all with the one time that is measured: clients may read any of them
    milliseconds = b"%d" % round(answer.seconds * 1_000)
    return [
        (b"x-compute-type", b"cpu"),
        (b"x-compute-characters", b"%d" % sum(map(len, answer.texts))),
        (b"x-compute-tokens", b"%d" % word_count(answer)),
        (b"x-compute-time", milliseconds),
        (b"x-total-time", milliseconds),
        (b"x-inference-time", milliseconds),
    ]


def word_count(answer: Answer) -> int:
    """Return the number of words, for fields that count tokens: a linear model has no tokenizer."""
    return sum(map(len, map(str.split, answer.texts)))


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

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/hf` and `/hf/models/{model}`, with the paths that `InferenceClient` appends to its URL."""
        example = {"inputs": EXAMPLE_TEXTS[0], "parameters": {"top_k": 1}}
        for path in ("/hf", "/hf/models/{model:model}"):
            routes.classify(
                path, TextClassificationBody, HuggingFaceResponse, summary="Classify", example=example
            )
            add_info(routes, f"{path}/info")

            # open like the native health checks: load balancers have no key
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
        found = [
            [
                {"label": label, "score": _raw(score) if is_raw else score}
                for label, score in answer.ranked(index)[: parameters.top_k]
            ]
            for index in range(len(answer.texts))
        ]
        return json_response(found)
