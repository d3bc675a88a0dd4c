"""The API's response bodies as pydantic models: FastAPI documents them, msgspec encodes the responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field


class TopLabel(BaseModel):
    """The most probable label and its probability."""

    label: str
    value: Annotated[float, Field(ge=0, le=1)]


class PredictionResponse(BaseModel):
    """The prediction for one text."""

    input: Annotated[str | None, Field(description="The text if `echo_input` is true, otherwise null.")]
    prediction: Annotated[dict[str, float], Field(description="The probability of every label.")]
    top: TopLabel
    from_cache: Annotated[bool, Field(description="Whether the answer was read from the prediction cache.")]
    decision: Annotated[
        str, Field(description="The label at the model's operating point; it may differ from `top`.")
    ]
    id: Annotated[
        str,
        Field(description="The prediction's id, a version-1 UUID; the log and feedback refer to it."),
    ]
    model_name: str
    model_version: str


class ExplanationResponse(BaseModel):
    """Where a logit comes from: `base`, every token's contribution and `whole` sum to `logit`."""

    text: Annotated[str, Field(description="The text in the form that the model reads.")]
    label: str
    probability: Annotated[float, Field(ge=0, le=1)]
    logit: float
    method: Annotated[
        str,
        Field(
            description="`exact` for linear models; `occlusion`: how much the logit falls without the token.",
            json_schema_extra={"enum": ["exact", "occlusion"]},
        ),
    ]
    base: Annotated[float, Field(description="The intercept, or the logit of the empty text.")]
    tokens: Annotated[
        list[Annotated[list[str | int | float], Field(min_length=4, max_length=4)]],
        Field(description="Each token, its first and its end position in `text`, and its contribution."),
    ]
    whole: Annotated[float, Field(description="What no single token contributes.")]
    families: Annotated[
        dict[str, float], Field(description="The same sum by kind of feature; empty for `occlusion`.")
    ]


class ServiceResponse(BaseModel):
    """Service information."""

    api_name: str
    caller_id: Annotated[str, Field(description="Your identity: the key's name, or your address.")]
    is_admin: Annotated[bool, Field(description="Whether your key has the admin scope.")]
    model_name: str
    model_version: str
    started_at: Annotated[datetime, Field(description="When the service started, in UTC.")]
    docs: Annotated[str, Field(description="The path of this documentation.")]
    page: Annotated[str, Field(description="The path of the web page.")]
    status: Annotated[str, Field(description="Always `alive`: KServe's V1 clients ask for it.")]


class ModelResponse(BaseModel):
    """The model that is served, as its manifest describes it."""

    name: str
    version: str
    digest: Annotated[str, Field(description="The model's identity: the SHA-256 of its manifest.")]
    kind: str
    labels: list[str]
    operating_point: dict[str, Any] | None
    metrics: dict[str, Any]
    training: Annotated[dict[str, Any], Field(description="The settings the model was trained with.")]
    network: Annotated[
        dict[str, Any] | None,
        Field(description="The network's configuration, as returned by Keras's `to_json()`."),
    ]


class HealthResponse(BaseModel):
    """The state of the service, and the reason."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["live", "ready", "degraded", "stopping"]})]
    reason: str


class ErrorFields(BaseModel):
    """An error: a code for programs and a message for people."""

    code: str
    message: str


class ErrorEnvelope(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorFields


class RecentCallResponse(BaseModel):
    """One text that was sent in the current hour."""

    index: Annotated[int, Field(ge=0, description="Its position in this list.")]
    input: str
    called_at: datetime


class LoggedCallResponse(BaseModel):
    """One text of one call, and its prediction."""

    id: Annotated[str, Field(description="The prediction's id, a version-1 UUID.")]
    called_at: datetime
    caller: str
    input: str
    label: str
    score: Annotated[float, Field(description="The probability of `label`.")]
    model: Annotated[str, Field(description="The digest of the model that answered.")]
    from_cache: bool
    decision: Annotated[
        str | None,
        Field(description="The label at the model's operating point; null for calls of old versions."),
    ]
    model_name: str | None
    model_version: str | None


class LogPageResponse(BaseModel):
    """One page of calls, and the cursor of the next."""

    calls: list[LoggedCallResponse]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; null at the end.")]


class KeyResponse(BaseModel):
    """A stored API key, without the key itself."""

    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: Annotated[datetime | None, Field(description="null: it does not expire.")]
    is_expired: bool


class KeysResponse(BaseModel):
    """All API keys, in the order in which they were created."""

    keys: list[KeyResponse]


class RevokedKeysResponse(BaseModel):
    """How many keys of a name were revoked."""

    name: str
    revoked: Annotated[int, Field(ge=1)]


class DeletionResponse(BaseModel):
    """How many rows of a caller were deleted."""

    caller: str
    calls: Annotated[int, Field(ge=0, description="Deleted rows of the call log.")]
    feedback: Annotated[int, Field(ge=0, description="Deleted rows of feedback.")]


class FeedbackResponse(BaseModel):
    """The true label of one text, as a caller reported it."""

    id: str
    prediction_id: Annotated[
        str | None, Field(description="The prediction it is about; null for feedback about a text.")
    ]
    caller: str
    input: str
    label: Annotated[str, Field(description="The true label.")]
    predicted: Annotated[str | None, Field(description="The label that the model predicted.")]
    model: Annotated[str | None, Field(description="The digest of the model that predicted it.")]
    model_name: str | None
    model_version: str | None
    comment: str
    created_at: datetime
    updated_at: Annotated[datetime, Field(description="When the label was last reported.")]


class StoredFeedbackResponse(FeedbackResponse):
    """Feedback as it is stored, and whether the model knows its label."""

    is_new_label: Annotated[bool, Field(description="Whether the model has no such label yet.")]


class FeedbackPageResponse(BaseModel):
    """One page of feedback, and the cursor of the next."""

    feedback: list[FeedbackResponse]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; null at the end.")]


class HourlyCountResponse(BaseModel):
    """The number of calls in one hour with one label."""

    hour: Annotated[datetime, Field(description="The start of the hour, in UTC.")]
    label: str
    count: Annotated[int, Field(ge=1)]


class LogSummaryResponse(BaseModel):
    """Calls counted by hour and label; an hour without calls is left out."""

    counts: list[HourlyCountResponse]
