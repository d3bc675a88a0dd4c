"""The small pieces that every route's part of the OpenAPI document is made of. Knows no route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

Json = dict[str, Any]

ERRORS = {
    400: "The body or the query cannot be read.",
    403: "The key lacks the scope for this.",
    413: "The body is too large.",
    415: "The body is not declared as plain JSON.",
    422: "A field is missing, unknown, of the wrong type or too long.",
    500: "The service failed; the details are in its log.",
    503: "The service cannot do this now; the header `retry-after` says when to try again.",
}


def head(tag: str, operation: str, summary: str) -> Json:
    """Return what stands first in every operation."""
    return {"tags": [tag], "operationId": operation, "summary": summary}


def responses(schema: Json, example: object, errors: Sequence[int]) -> Json:
    """Return what an operation answers: `schema`, or one of the `errors` or 500."""
    failures = {
        str(status): {"description": ERRORS[status], **content(ref("ErrorBody"))} for status in (*errors, 500)
    }
    return {"200": {"description": "Done.", **content(schema, example)}, **failures}


def content(schema: Json, example: object = UNSET) -> Json:
    """Return a body in JSON."""
    media: Json = {"schema": schema}
    if example is not UNSET:
        media["example"] = msgspec.to_builtins(example)
    return {"content": {"application/json": media}}


def ref(name: str) -> Json:
    """Return the reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}
