"""Every body that is read or written over HTTP, defined once.

The decoders, the encoder and the OpenAPI document are all made from these. Knows no route and no
model: the labels of the model that is served are put into the document by `openapi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

_Text = Annotated[str, Meta(description="The text to classify; an empty one is allowed.")]
_SkipCache = Annotated[bool, Meta(description="Compute afresh instead of reading a stored answer.")]
_EchoInput = Annotated[bool, Meta(description="Give the text back as `input`, otherwise `input` is null.")]


class SingleQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify."""

    text: _Text
    echo_input: _EchoInput = False
    skip_cache: _SkipCache = False


class ManyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts to classify; the answers come in the same order."""

    texts: Annotated[list[str], Meta(min_length=1, description="The texts to classify.")]
    echo_input: _EchoInput = True
    skip_cache: _SkipCache = False


class Top(Struct, frozen=True, gc=False):
    """The most probable label and its probability."""

    label: str
    value: Annotated[float, Meta(ge=0, le=1)]


class PredictionBody(Struct, frozen=True, gc=False):
    """What the model says of one text."""

    input: Annotated[str | None, Meta(description="The text, if `echo_input` asked for it.")]
    prediction: Annotated[Mapping[str, float], Meta(description="The probability of every label.")]
    top: Top
    from_cache: Annotated[bool, Meta(description="Whether the answer was stored earlier.")]
    decision: Annotated[
        str, Meta(description="The label at the model's operating point; it may differ from `top`.")
    ]
    model_version: str


class ServiceInfo(Struct, frozen=True):
    """What answers here, and who asks."""

    api_name: str
    caller_id: Annotated[
        str, Meta(description="Who you are to the service: your key's name, or your address.")
    ]
    model_name: str
    model_version: str
    started_at: Annotated[datetime, Meta(description="When the service started, in UTC.")]
    docs: Annotated[str, Meta(description="The path of this documentation.")]
    page: Annotated[str, Meta(description="The path of the web page.")]


class ModelInfo(Struct, frozen=True):
    """The model that is served, as its manifest describes it."""

    name: str
    version: str
    digest: Annotated[str, Meta(description="The model's identity: the SHA-256 of its manifest.")]
    kind: str
    labels: list[str]
    operating_point: dict[str, Any] | None
    metrics: dict[str, Any]
    training: Annotated[dict[str, Any], Meta(description="The settings the model was trained with.")]
    network: Annotated[
        Mapping[str, Any] | None,
        Meta(description="The network's own configuration, as Keras's `to_json()` gives it."),
    ]


class Health(Struct, frozen=True):
    """Whether the service can answer, and why it says so."""

    status: str
    reason: str


class ErrorDetail(Struct, frozen=True):
    """What was wrong: a code for programs and a sentence for people."""

    code: str
    message: str


class ErrorBody(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail
