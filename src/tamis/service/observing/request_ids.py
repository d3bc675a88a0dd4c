"""A name for every request, by which its log lines, its trace and its answer are found again.

Knows the header `X-Request-ID` and its content only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from itertools import count

REQUEST_ID = "tamis.request_id"
"""Where in an ASGI scope the id stands, as bytes."""

HEADER = b"x-request-id"

_PLAUSIBLE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
"""What proxies and tracing tools make: nothing that could break a header, a line or a page."""

_PREFIX_BYTES = 6


class RequestIds:
    """Takes over the id that a request brings, or makes one: a prefix of this process's own and a number."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom):
        self._prefix = random_bytes(_PREFIX_BYTES).hex().encode()
        self._next = count(1).__next__

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the id of a request with these headers."""
        for name, value in headers:
            if name == HEADER:
                return value if _PLAUSIBLE.fullmatch(value) else self.new()
        return self.new()

    def new(self) -> bytes:
        """Return an id that no other process and no other request has."""
        return b"%s-%x" % (self._prefix, self._next())
