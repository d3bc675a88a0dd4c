"""The Python client of a running service: `Client` and `AsyncClient`, which need the extra `client`."""

from tamis.client.operations import RetryPolicy
from tamis.client.records import (
    AccessError,
    ConnectionFailedError,
    FeedbackReceipt,
    LoggedPrediction,
    ModelStatus,
    NotFoundError,
    RateLimitedError,
    RequestRefusedError,
    ServedPrediction,
    ServiceError,
    TokenExplanation,
    UnavailableError,
    VersionStatus,
)

__all__ = [
    "AccessError",
    "ConnectionFailedError",
    "FeedbackReceipt",
    "LoggedPrediction",
    "ModelStatus",
    "NotFoundError",
    "RateLimitedError",
    "RequestRefusedError",
    "RetryPolicy",
    "ServedPrediction",
    "ServiceError",
    "TokenExplanation",
    "UnavailableError",
    "VersionStatus",
]
