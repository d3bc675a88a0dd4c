"""What the methods of a client return: the service's JSON, typed. Fields of later versions are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field


class _PredictionTop(Struct, frozen=True):
    label: str
    value: float


class ServedPrediction(Struct, frozen=True):
    """The prediction for one text.

    `label` is the most probable label and `score` its probability; `decision` is the label at the model's
    operating point. Feedback and the log refer to `id`.
    """

    top: _PredictionTop
    scores: dict[str, float] = field(name="prediction")
    decision: str
    id: str
    from_cache: bool
    model_name: str
    model_version: str
    input: str | None = None

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.top.label

    @property
    def score(self) -> float:
        """The probability of `label`."""
        return self.top.value


class LoggedPrediction(Struct, frozen=True):
    """One text of one call in the call log."""

    id: str
    called_at: datetime
    caller: str
    input: str
    label: str
    score: float
    model: str
    from_cache: bool
    decision: str | None = None
    model_name: str | None = None
    model_version: str | None = None


class LogPage(Struct, frozen=True):
    """One page of the call log."""

    calls: list[LoggedPrediction]
    next_cursor: str | None = None


class FeedbackReceipt(Struct, frozen=True):
    """The true label of a text as the service has stored it."""

    id: str
    label: str
    input: str
    created_at: datetime
    updated_at: datetime
    is_new_label: bool
    prediction_id: str | None = None
    predicted: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    comment: str = ""


class VersionStatus(Struct, frozen=True):
    """One version of a model: `state` is served, loaded, on disk or failed."""

    version: str
    state: str
    aliases: list[str] = field(default_factory=list)
    reason: str | None = None


class ModelStatus(Struct, frozen=True):
    """One model: the version that is served, its labels, aliases and versions."""

    name: str
    is_default: bool
    version: str | None
    labels: list[str] | None
    aliases: dict[str, str]
    versions: list[VersionStatus]
    digest: str | None = None
    error: str | None = None


class TokenExplanation(Struct, frozen=True):
    """Where a logit comes from; each token is its text, start, end and contribution."""

    text: str
    label: str
    probability: float
    logit: float
    method: str
    base: float
    tokens: list[tuple[str, int, int, float]]
    whole: float
    families: dict[str, float]


Filters = dict[str, Any]
"""Query parameters of the log, such as `since`, `label` or `contains`."""
