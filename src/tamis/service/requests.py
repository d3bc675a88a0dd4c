"""From the bytes of a request to a checked query, or an InputError that names the field.

Knows what is accepted: content type, size, JSON, fields, and limits on texts. No message repeats
the caller's text. Knows no model and no route.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from tamis.errors import InputError
from tamis.service.schemas import ManyQuery, SingleQuery

Query = TypeVar("Query", SingleQuery, ManyQuery)

_DISCARD_FACTOR = 4
"""A body up to this many times too large is read to its end: a client that is still sending may not
see an answer when the connection is closed under it."""

_JSON = b"application/json"
_BACKSLASH = ord("\\")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_QUERY_FIELDS = frozenset(SingleQuery.__struct_fields__)
_BODY_FIELDS = _QUERY_FIELDS | frozenset(ManyQuery.__struct_fields__)
_BODY_KEYS = tuple(f'"{name}"'.encode() for name in sorted(_BODY_FIELDS))
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MAX_QUERY_FIELDS = 16
_SHOWABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_FIELD_IN_MESSAGE = re.compile(r"^Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_PLACE_IN_MESSAGE = re.compile(r"^(.*) - at `\$\.?(.*)`$")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring."""

    max_body_bytes: int
    max_text_chars: int
    max_texts: int


def no_observation(seconds: float) -> None:
    """Observe nothing."""


class RequestReader:
    """Reads requests for predictions within `limits`."""

    def __init__(self, limits: Limits, observe: Callable[[float], None] = no_observation):
        """Take the limits, and who is to `observe` how many seconds a body took."""
        self._limits = limits
        self._observe = observe
        self._decode_single = msgspec.json.Decoder(SingleQuery).decode
        self._decode_many = msgspec.json.Decoder(ManyQuery).decode

    async def single(self, scope: Scope, receive: Receive) -> SingleQuery:
        """Read the body of `POST /prediction`."""
        began = perf_counter()
        query = _decode(self._decode_single, await self._body(scope, receive))
        self._check_text(query.text, "text")
        self._observe(perf_counter() - began)
        return query

    async def many(self, scope: Scope, receive: Receive) -> ManyQuery:
        """Read the body of `POST /predictions`."""
        began = perf_counter()
        query = _decode(self._decode_many, await self._body(scope, receive))
        if len(query.texts) > self._limits.max_texts:
            raise InputError(
                "too_many_texts", f"`texts` holds more than {self._limits.max_texts} texts", field="texts"
            )
        for index, text in enumerate(query.texts):
            self._check_text(text, f"texts[{index}]")
        self._observe(perf_counter() - began)
        return query

    def from_query_string(self, scope: Scope) -> SingleQuery:
        """Read the parameters of `GET /prediction`."""
        query = _parse_query(scope["query_string"])
        self._check_text(query.text, "text")
        return query

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        _check_content_type(headers)
        return await _receive_body(headers, receive, self._limits.max_body_bytes)

    def _check_text(self, text: str, field: str) -> None:
        if len(text) > self._limits.max_text_chars:
            message = f"`{field}` is longer than {self._limits.max_text_chars} characters"
            raise InputError("text_too_long", message, field=field)


def _check_content_type(headers: dict[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"")
    if content_type != _JSON and content_type.partition(b";")[0].strip().lower() != _JSON:
        message = "the header `content-type` must be application/json"
        raise InputError("wrong_content_type", message, field="content-type")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        message = "the body must not be compressed: leave out the header `content-encoding`"
        raise InputError("compressed_body", message, field="content-encoding")


async def _receive_body(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Collect the body; what is beyond the limit is counted and dropped, never kept."""
    declared, most_bytes = headers.get(b"content-length", b""), max_bytes * _DISCARD_FACTOR
    if declared.isdigit() and len(declared) < 20 and int(declared) > most_bytes:
        _refuse_size(max_bytes)
    chunks, received, more = [], 0, True
    while more and received <= most_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InputError(
                "incomplete_body", "the connection was closed before the body ended", field="body"
            )
        chunk, more = message.get("body", b""), message.get("more_body", False)
        received += len(chunk)
        if received <= max_bytes:
            chunks.append(chunk)
    if received > max_bytes:
        _refuse_size(max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _refuse_size(max_bytes: int) -> NoReturn:
    raise InputError("body_too_large", f"the body is larger than {max_bytes} bytes", field="body")


def _decode(decode: Callable[[bytes], Query], body: bytes) -> Query:
    try:
        query = decode(body)
    except msgspec.ValidationError as wrong:
        raise _invalid(str(wrong)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        # msgspec's own words name a place, never a content; those of a UnicodeDecodeError may not.
        why = str(wrong) if isinstance(wrong, msgspec.DecodeError) else "not valid UTF-8"
        raise _nearly_json(body) or InputError(
            "not_json", f"the body is not JSON in UTF-8: {why}", field="body"
        ) from None
    if _may_repeat_a_key(body):
        json.loads(body.decode(), object_pairs_hook=_refuse_duplicates)
    return query


def _may_repeat_a_key(body: bytes) -> bool:
    """Whether a body that has been decoded needs a closer look: most do not, and it costs as much again.

    Each key needs a colon. Its keys are known, or it would have been refused, so one that stands twice is
    found as it is unless it is written with a backslash; within a text its quotes would have one too.
    """
    return body.count(b":") > 1 and (_BACKSLASH in body or any(body.count(key) > 1 for key in _BODY_KEYS))


def _nearly_json(body: bytes) -> InputError | None:
    """Name the field that holds what Python's own reader lets pass: NaN, or half a surrogate pair."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for field, value in _places(document):
        if isinstance(value, str) and _HALF_PAIR.search(value):
            return InputError("not_json", f"`{field}` holds half of a surrogate pair", field=field)
        if isinstance(value, float) and not isfinite(value):
            return InputError("not_json", f"`{field}` is NaN or infinite, which is not JSON", field=field)
    return None


def _places(document: object) -> Iterator[tuple[str, object]]:
    """Yield each value that one of our fields has, lists value by value, with the name of its place."""
    fields = document if isinstance(document, dict) else {}
    for name in fields.keys() & _BODY_FIELDS:
        value = fields[name]
        values = enumerate(value) if isinstance(value, list) else []
        yield from [(name, value), *((f"{name}[{index}]", one) for index, one in values)]


def _refuse_duplicates(pairs: Sequence[tuple[str, object]]) -> None:
    """Refuse two equal keys: msgspec takes the last without a word, a proxy in front might take the first."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InputError("duplicate_field", f"the field `{name}` stands twice", field=name)
        seen.add(name)


def _invalid(problem: str) -> InputError:
    """Turn msgspec's message into ours; it names types and places, and repeats only a field's name."""
    if found := _FIELD_IN_MESSAGE.match(problem):
        return _wrong_field(found[2], known=found[1] == "missing required")
    if found := _PLACE_IN_MESSAGE.match(problem):
        what, field = found[1], found[2]
        if what.startswith("Expected `array` of length"):
            return InputError("no_texts", f"`{field}` must hold at least one text", field=field)
        return InputError("wrong_type", f"`{field}`: {_lower_first(what)}", field=field)
    return InputError("wrong_type", f"the body: {_lower_first(problem)}", field="body")


def _wrong_field(name: str, *, known: bool) -> InputError:
    if known:
        return InputError("missing_field", f"the field `{name}` is missing", field=name)
    shown = f"`{name}`" if _SHOWABLE_NAME.fullmatch(name) else "with a strange name"
    return InputError("unknown_field", f"the field {shown} is not known", field=name)


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def query_values(query_string: bytes, known: frozenset[str]) -> dict[str, str]:
    """Return the parameters of a query by name; refuse one that is not in `known` or stands twice."""
    try:
        pairs = parse_qsl(
            query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError:  # not UTF-8, or a flood of parameters
        message = "the query is not UTF-8 or has too many parameters"
        raise InputError("broken_query", message, field="query") from None
    for name, _ in pairs:
        if name not in known:
            raise _wrong_field(name, known=False)
    _refuse_duplicates(pairs)
    return dict(pairs)


def _parse_query(query_string: bytes) -> SingleQuery:
    values = query_values(query_string, _QUERY_FIELDS)
    if "text" not in values:
        raise _wrong_field("text", known=True)
    return SingleQuery(values["text"], _boolean(values, "echo_input"), _boolean(values, "skip_cache"))


def _boolean(values: dict[str, str], name: str) -> bool:
    value = values.get(name, "false").lower()
    if value not in _BOOLEANS:
        raise InputError("wrong_type", f"`{name}`: expected `true` or `false`", field=name)
    return _BOOLEANS[value]
