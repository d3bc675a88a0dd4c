"""The driver's errors, as one line and as one of `STORE_FAULTS`. Knows no table."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cassandra import (
    AuthenticationFailed,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import OverloadedErrorMessage

_DESCRIPTIONS: dict[type[BaseException], str] = {
    AuthenticationFailed: "wrong user or password",
    Unauthorized: "permission denied",
    OverloadedErrorMessage: "the cluster is overloaded",
    OperationTimedOut: "timed out",
    WriteTimeout: "too few replicas acknowledged a write in time",
    ReadTimeout: "too few replicas answered in time",
}

_FAULTS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((Unavailable,), "unavailable"),
    ((OverloadedErrorMessage,), "overloaded"),
    ((OperationTimedOut, WriteTimeout, ReadTimeout), "timeout"),
)
_NO_CONNECTION = (NoHostAvailable, UnresolvableContactPoints, ConnectionException, OSError)


def describe(error: BaseException) -> str:
    """Return the cause, in one line without line breaks."""
    if isinstance(error, NoHostAvailable):
        return _of_hosts(error.errors)
    if isinstance(error, Unavailable):
        return f"too few replicas are up: {error.alive_replicas} of the {error.required_replicas} needed"
    for kind, text in _DESCRIPTIONS.items():
        if isinstance(error, kind):
            return text
    message = getattr(error, "message", None) if isinstance(error, InvalidRequest) else None
    return _one_line(f"{type(error).__name__}: {message or error}")


def fault_of(error: BaseException) -> str:
    """Return which of `STORE_FAULTS` an error is; of several hosts' errors the first that is known."""
    for cause in causes(error):
        for kinds, fault in _FAULTS:
            if isinstance(cause, kinds):
                return fault
    return "unavailable" if isinstance(error, _NO_CONNECTION) else "other"


def causes(error: BaseException) -> Iterable[BaseException]:
    """Return the error of each host, if several were tried."""
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        return list(error.errors.values())
    return [error]


def _of_hosts(errors: object) -> str:
    if not isinstance(errors, dict) or not errors:
        return "no host can be reached"
    messages = {describe(error) for error in errors.values() if isinstance(error, BaseException)}
    hosts = ", ".join(sorted(str(getattr(host, "address", host)) for host in errors))
    return f"all hosts failed ({hosts}): {'; '.join(sorted(messages))}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:300]
