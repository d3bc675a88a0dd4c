"""What generated requests need to know of cursors: a format of their own that no pattern describes."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tamis.storage.ids import ID_BYTES
from tamis.storage.query import encode_cursor


def register_cursors() -> None:
    """Teach schemathesis the format `cursor` of the OpenAPI document."""
    cursors = st.binary(min_size=ID_BYTES, max_size=ID_BYTES).map(encode_cursor)
    schemathesis.openapi.format("cursor", cursors)
