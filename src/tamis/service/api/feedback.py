"""The routes of feedback: `POST` and `GET /feedback`."""

# No `from __future__ import annotations`: the request's model is a local class, which FastAPI could not find
# by its name.
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from tamis.service.api.log import OTHER_FORMATS, LogParameters, streamed
from tamis.service.api.route import RequestLimits, Requires, errors
from tamis.service.bodies import FeedbackPageResponse, StoredFeedbackResponse
from tamis.service.call_log.formats import FEEDBACK_FORMATS, feedback_document
from tamis.service.call_log.readers import LogReaders
from tamis.service.feedback import FeedbackService
from tamis.service.responses import json_response
from tamis.service.security.client_identity import CALLER, FEEDBACK
from tamis.service.security.rate_limit import RateLimiter
from tamis.storage import FeedbackLog

MAX_LABEL_CHARS = 200
MAX_COMMENT_CHARS = 1_000

_POST_TEXT = (
    "Reports the true label of one of your own predictions, by the `id` of its answer, or of a text. The "
    "label may be one that the model does not have yet. A second report about the same prediction or text "
    "replaces the first, so a request may be sent again. An unknown id and the prediction of another caller "
    "give the same response, 404; a key with the admin scope may correct the predictions of all callers."
)
_GET_TEXT = (
    "Every caller reads their own feedback; a key with the admin scope reads everyone's, or with `caller` "
    "that of one. `label` is the true label; the other parameters and the formats are those of `GET /log`."
)
_EXAMPLES = {
    "prediction": {
        "value": {"prediction_id": "48437290-e5fc-11f1-8001-030304050607", "label": "ham"},
        "summary": "By prediction",
    },
    "text": {
        "value": {"text": "Are we still on for lunch tomorrow?", "label": "ham", "comment": "a friend"},
        "summary": "By text",
    },
}


# pydantic has no field for "exactly one of two"; `_has_one_subject` enforces what this documents
_ONE_SUBJECT: dict[str, Any] = {"oneOf": [{"required": ["prediction_id"]}, {"required": ["text"]}]}


def _no_default(schema: dict[str, Any]) -> None:
    """Remove a default that means an absent field: clients generated from the schema would send it."""
    schema.pop("default", None)


class _Feedback(BaseModel):
    """A request without the limit of this service."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_ONE_SUBJECT)
    prediction_id: Annotated[
        str,
        Field(max_length=64, description="The `id` of one of your answers.", json_schema_extra=_no_default),
    ] = ""
    text: Annotated[str, Field(json_schema_extra=_no_default)] = ""
    model: Annotated[
        str,
        Field(
            max_length=200,
            description="For a text: the model, NAME or NAME@ALIAS; a prediction has its own.",
            json_schema_extra=_no_default,
        ),
    ] = ""
    label: Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS, description="The true label.")]
    comment: Annotated[str, Field(max_length=MAX_COMMENT_CHARS)] = ""

    @model_validator(mode="after")
    def _has_one_subject(self) -> "_Feedback":
        if len({"prediction_id", "text"} & self.model_fields_set) != 1:
            raise ValueError("expected exactly one of `prediction_id` and `text`")
        return self


def add_feedback_routes(
    router: APIRouter,
    service: FeedbackService,
    log: FeedbackLog,
    readers: LogReaders,
    *,
    limits: RequestLimits,
    limiter: RateLimiter | None,
) -> None:
    """Add the routes of feedback; each report counts as one text for the rate limit."""
    options: dict[str, Any] = {"tags": ["feedback"], "dependencies": [Depends(Requires(FEEDBACK))]}

    class FeedbackRequest(_Feedback):
        """The true label of a prediction or of a text: exactly one of the two."""

        text: Annotated[str, Field(max_length=limits.max_text_chars, json_schema_extra=_no_default)] = ""

    @router.post(
        "/feedback",
        status_code=201,
        response_model=StoredFeedbackResponse,
        summary="Report the true label of a prediction",
        description=_POST_TEXT,
        responses=errors(400, 404, 413, 415, 422, 429, 503),
        **options,
    )
    async def report(
        query: Annotated[FeedbackRequest, Body(openapi_examples=_EXAMPLES)], request: Request
    ) -> Response:
        caller = request.scope[CALLER]
        headers = [] if limiter is None else limiter.consume(caller, texts=1).headers
        # by presence, not by truth: an empty text is a valid subject
        if "prediction_id" in query.model_fields_set:
            row = await service.about_prediction(
                query.prediction_id, caller, label=query.label, comment=query.comment
            )
        else:
            row = await service.about_text(
                query.text, caller, label=query.label, comment=query.comment, model_name=query.model
            )
        document = feedback_document(row) | {"is_new_label": service.is_new_label(row)}
        return json_response(document, status=201, headers=headers)

    @router.get(
        "/feedback",
        response_model=FeedbackPageResponse,
        summary="Search your feedback",
        description=_GET_TEXT,
        responses={**errors(400, 403, 422, 429, 503), 200: {"content": OTHER_FORMATS}},
        **options,
    )
    async def feedback(parameters: Annotated[LogParameters, Query()], request: Request) -> Response:
        query = parameters.query(request.scope[CALLER], newest_first=parameters.order == "newest")
        return await streamed(log, query, parameters, request, formats=FEEDBACK_FORMATS, readers=readers)
