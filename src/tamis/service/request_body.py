"""Request bodies and query strings: bounded, strictly JSON, no duplicate names.

    headers ─► content type (415), coding (415) ─► bytes up to the limit (413) ─► decompressed (400, 413)
            ─► JSON by msgspec (400) ─► duplicate names (400) ─► document

Python's JSON reader accepts NaN, unpaired surrogates and duplicate keys, and FastAPI reads a body of any
size; these functions run first, for the FastAPI routes and for the fast path. No message repeats the
caller's text.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive

from tamis.errors import InputError

# `int` raises for more than 4,300 digits; 18 digits are an exabyte, more than any limit
_MAX_LENGTH_DIGITS = 18
_DISCARD_FACTOR = 4
"""A body up to this factor too large is read to its end: a client that is still sending may miss the error
response if the connection is closed."""

HEADERS = "tamis.headers"
"""Key of a request's headers by name in an ASGI scope; of two equal names the first one counts."""

WHOLE_BODY = "tamis.whole_body"
"""Key of the body in an ASGI scope, set by `service/http` if it is complete; `receive` returns it, too."""

BODY_SECONDS = "tamis.body_seconds"
"""Key of how long receiving and parsing a valid body took, in an ASGI scope."""

_JSON = b"application/json"
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# names with escapes are not matched: `may_have_duplicates` then finds fewer names than colons
_NAME = re.compile(rb'"([^"\\]*)"\s*:')
_SURROGATE = re.compile("[\ud800-\udfff]")
# other names are not repeated in messages and logs, where they could contain a text or control characters
_PRINTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
# the log's routes take a dozen
_MAX_QUERY_FIELDS = 16

_decode = msgspec.json.Decoder().decode


def is_plain_json(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the body is declared as uncompressed JSON in the form that most clients send."""
    return headers.get(b"content-type") == _JSON and b"content-encoding" not in headers


def media_type(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the body's media type without parameters, in lower case; empty if it is not declared."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def check_content_type(
    headers: Mapping[bytes, bytes], *others: bytes, of_other_routes: Sequence[bytes] = ()
) -> None:
    """Raise InputError unless the body is declared as JSON or as one of `others` (empty: undeclared).

    `of_other_routes` are the types that other routes of the path take; the message names them, too.
    """
    # most clients send the plain type, which needs no parsing
    if headers.get(b"content-type") != _JSON and media_type(headers) not in (_JSON, *others):
        *first, last = [one.decode() for one in (_JSON, *others, *of_other_routes) if one]
        accepted = f"{', '.join(first)} or {last}" if first else last
        message = f"the header `content-type` must be {accepted}"
        raise InputError("wrong_content_type", message, field="content-type")


async def receive_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body, decompressed; neither form may have more than `max_bytes`."""
    window_bits = content_coding(headers)
    body = await receive_plain_body(headers, receive, max_bytes)
    return body if window_bits is None else _unpacked(body, window_bits, max_bytes)


def content_coding(headers: Mapping[bytes, bytes]) -> int | None:
    """Return zlib's window bits for the body's content coding; None if it has none."""
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding == b"identity":
        return None
    if coding not in _WINDOW_BITS:
        message = "the header `content-encoding` must be gzip, deflate or absent"
        raise InputError("compressed_body", message, field="content-encoding")
    return _WINDOW_BITS[coding]


def _unpacked(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    """Return the content of a compressed body; stop decompressing at `max_bytes` (zip bombs)."""
    unpacker = zlib.decompressobj(window_bits)
    try:
        content = unpacker.decompress(body, max_bytes + 1)
    except zlib.error:
        content = None
    if content is not None and len(content) > max_bytes:
        _reject_size(max_bytes)
    # truncated, or a second stream after the first, which other readers would see and we would not
    if content is None or not unpacker.eof or unpacker.unused_data:
        raise broken_coding()
    return content


def broken_coding() -> InputError:
    """Return the error for a body that is not what `content-encoding` declares."""
    message = "the body is not one complete stream of the header's `content-encoding`"
    return InputError("broken_encoding", message, field="content-encoding")


async def receive_plain_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body as received; bytes beyond `max_bytes` are counted and dropped, never stored."""
    max_read = max_bytes * _DISCARD_FACTOR
    declared = headers.get(b"content-length", b"")
    if len(declared) > _MAX_LENGTH_DIGITS:
        declared = declared.lstrip(b"0")[: _MAX_LENGTH_DIGITS + 1]
    if declared.isdigit() and int(declared) > max_read:
        _reject_size(max_bytes)
    chunks: list[bytes] = []
    received, more = 0, True
    while more and received <= max_read:
        message = await receive()
        if message["type"] == "http.disconnect":
            reason = "the connection was closed before the body ended"
            raise InputError("incomplete_body", reason, field="body")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        received += len(chunk)
        if received <= max_bytes:
            chunks.append(chunk)
    if received > max_bytes:
        _reject_size(max_bytes)
    return b"".join(chunks)


def parse_json(body: bytes, name: str = "the body") -> Any:
    """Return the document in `body`; raise InputError unless it is RFC 8259 JSON without duplicate names.

    `name` is the document's name in messages. A UTF-8 byte order mark, which some clients send, is ignored.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as invalid:
        # msgspec's message has a position and no content; that of a UnicodeDecodeError has bytes of the body
        reason = str(invalid) if isinstance(invalid, msgspec.DecodeError) else "not valid UTF-8"
        raise _nearly_json(body) or InputError(
            "not_json", f"{name} is not JSON in UTF-8: {reason}", field="body"
        ) from None
    if may_have_duplicates(body, document):  # msgspec silently takes the last of two equal names
        json.loads(body, object_pairs_hook=_reject_duplicates)
    return document


def may_have_duplicates(body: bytes, document: object) -> bool:
    """Return whether a decoded body needs a second parse to find duplicate names; most do not.

    Every name is followed by a colon, and a duplicate leaves fewer names in the document than colons in the
    body. What looks like the end of a name within a text only costs the second parse, which takes 18 µs of a
    request with nested objects (docs/lab-notes.md).
    """
    colons = body.count(b":")
    if isinstance(document, dict) and colons == len(document):
        return False
    names = _NAME.findall(body)  # all of them, if there are as many as colons
    if len(set(names)) == len(names) == colons:
        return False
    # white space before a colon: the count below would miss the name
    if b" :" in body or b"\t:" in body or b"\n:" in body or b"\r:" in body:
        return True
    return body.count(b'":') != _count_names(document)


def _count_names(document: object) -> int:
    count, pending = 0, [document]  # not recursive: a body may be nested deeper than Python's stack
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            count += len(value)
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return count


def check_query(query_string: bytes) -> None:
    """Raise InputError unless a query string is UTF-8 of few parameters, none given twice."""
    try:
        pairs = parse_qsl(
            query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError:  # not UTF-8, or too many parameters
        message = "the query string is not valid UTF-8 or has too many parameters"
        raise InputError("broken_query", message, field="query") from None
    _reject_duplicates(pairs)


def shown_name(name: str) -> str:
    """Return a caller's field name for a message; an unusual one is not repeated."""
    return f"`{name}`" if _PRINTABLE_NAME.fullmatch(name) else "with an unprintable name"


def _reject_size(max_bytes: int) -> NoReturn:
    raise InputError("body_too_large", f"the body is larger than {max_bytes} bytes", field="body")


def _reject_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the fields; reject duplicate names, of which one parser takes the first, another the last."""
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise InputError("duplicate_field", f"duplicate field {shown_name(name)}", field=name)
        fields[name] = value
    return fields


def _nearly_json(body: bytes) -> InputError | None:
    """Return an error that names the field with what Python's reader accepts although it is not JSON."""
    try:  # only after msgspec has refused it: msgspec's message has no field
        document = json.loads(body)  # decodes bytes with `surrogatepass`
    except (ValueError, RecursionError):
        return None
    for field, value in _fields(document):
        if isinstance(value, str) and _SURROGATE.search(value):
            return InputError("not_json", f"{field} contains an unpaired surrogate", field=field)
        if isinstance(value, float) and not isfinite(value):
            return InputError("not_json", f"{field} is NaN or infinite, which is not JSON", field=field)
    return None


def _fields(document: object) -> Iterator[tuple[str, object]]:
    """Yield each value of the outermost object, lists item by item, with its name for a message."""
    for name, value in document.items() if isinstance(document, dict) else ():
        yield shown_name(name), value
        if isinstance(value, list):
            yield from ((shown_name(name)[:-1] + f"[{index}]`", item) for index, item in enumerate(value))
