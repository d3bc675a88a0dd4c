"""What the OpenAPI document says of keys and limits, added to each operation where they are on.

Knows which scopes open a path and which headers a refusal has; knows no body but that of an error.
"""

from __future__ import annotations

from tamis.service.authorization import SERVICE_INFO, is_open, scopes_for
from tamis.service.openapi_parts import Json, content, ref

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of this service, made by its operator with `tamis keys create`.",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_EITHER_HEADER: list[Json] = [{scheme: []} for scheme in _SCHEMES]
_CHALLENGE = {"WWW-Authenticate": "What is asked for, as RFC 6750 has it."}
_STANDING = {
    "RateLimit-Policy": "How many texts may be sent at once (q), and in how many seconds they come back (w).",
    "RateLimit": "How many texts are left now (r), and in how many seconds all of them will be back (t).",
}
_WAIT = {"Retry-After": "In how many seconds the same request would be let in."}
_COUNTED_PATHS = ("/prediction", "/predictions")


def add_keys(document: Json) -> None:
    """Say which operations need a key, and how they refuse one."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        if is_open(path):
            continue
        for operation in operations.values():
            operation["security"] = [*([{}] if path == SERVICE_INFO else []), *_EITHER_HEADER]
            responses = operation["responses"]
            responses["401"] = _refusal("There is no key, or it does not hold.", _CHALLENGE)
            if needed := scopes_for(path):
                known = f"{responses['403']['description']} " if "403" in responses else ""
                why = f"{known}The key lacks a scope: {' or '.join(sorted(needed))}."
                responses["403"] = _refusal(why, _CHALLENGE)
            responses.setdefault("503", _refusal("Keys cannot be checked now.", _WAIT))


def add_limits(document: Json) -> None:
    """Say what a caller is told about a limit, and how one who has reached it is refused."""
    for path in _COUNTED_PATHS:
        for operation in document["paths"][path].values():
            responses = operation["responses"]
            responses["200"] = responses["200"] | {"headers": _headers(_STANDING)}
            responses["429"] = _refusal("The caller has sent too many texts.", _WAIT | _STANDING)


def _refusal(description: str, headers: dict[str, str]) -> Json:
    return {"description": description, "headers": _headers(headers), **content(ref("ErrorBody"))}


def _headers(described: dict[str, str]) -> Json:
    return {
        name: {"description": meaning, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
        for name, meaning in described.items()
    }
