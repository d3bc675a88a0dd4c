"""What generated requests need to know of this service: the format of cursors, and bodies of lines."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tamis.storage.ids import ID_BYTES
from tamis.storage.query import encode_cursor


def register_cursors() -> None:
    """Teach schemathesis the format `cursor` of the OpenAPI document."""
    cursors = st.binary(min_size=ID_BYTES, max_size=ID_BYTES).map(encode_cursor)
    schemathesis.openapi.format("cursor", cursors)


@schemathesis.serializer("application/x-ndjson", "text/csv")
def lines(context: Any, value: Any) -> bytes:
    """Send a generated text as it is."""
    return str(value).encode("utf-8", "surrogatepass")
