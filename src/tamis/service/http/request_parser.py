"""The head of each request on one connection, checked, and a byte budget for everything but bodies.

llhttp (through httptools) does the parsing; it limits no sizes. Data is fed to it in slices, and after
each slice the bytes that were not body are charged to the request that is being received. A request
that fits into one slice, the ordinary case, costs one comparison.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from tamis.service.responses import Headers

_HASH = ord("#")  # an int: `bytes in bytes` first raises and discards a TypeError in CPython
_ASGI = {"version": "3.0", "spec_version": "2.3"}
HEAD_SLICE_BYTES = 4_096  # bounds how many small pipelined requests can wait as objects
_BODY_SLICE_BYTES = 16_384
_MAX_HEADERS = 128  # each is an object that costs more memory than its bytes
CREDIT_PER_BODY_BYTE = 8  # a chunk of one byte has five more around it
_NOTED_HEADERS = frozenset([b"host", b"expect", b"transfer-encoding"])
_FRAMING_HEADERS = frozenset([b"content-length", b"transfer-encoding"])


class RequestError(Exception):
    """The bytes are not an acceptable request; `reason` is a key of `ConnectionMonitor.errors`."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class RequestParser:
    """Feeds llhttp, collects heads, and enforces limits; a subclass receives requests and bodies.

    Overhead is every byte of a request that is not its body: start line, headers, chunk sizes,
    chunk extensions and trailers.
    """

    def __init__(self, max_header_bytes: int):
        self._parser: Any = None
        self._max_overhead = max_header_bytes
        self._overhead = 0
        self._slice_bytes = 0
        self._requests = 0
        self._url, self._headers = b"", cast(Headers, [])
        self._hosts, self._expects_continue, self._has_unknown_coding = 0, False, False
        self._is_in_head = self._is_in_body = self._is_head_split = self._is_replay = False
        self._offers_upgrade = False

    def on_message_begin(self) -> None:
        """Begin a request (called by the parser)."""
        if self._is_replay:
            return
        self._url, self._headers = b"", []
        self._hosts, self._expects_continue, self._has_unknown_coding = 0, False, False
        self._requests += 1
        self._is_in_head, self._is_head_split = True, False

    def on_url(self, url: bytes) -> None:
        """Append a piece of the request's target (called by the parser)."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or discard a trailer (called by the parser)."""
        if not self._is_in_head:
            return  # merging trailers would let them override what a proxy has set in the head
        name = name.lower()
        if name in _NOTED_HEADERS:
            self._note(name, value)
        self._headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        else:
            self._has_unknown_coding = self._has_unknown_coding or value.strip().lower() != b"chunked"

    def _feed(self, data: bytes) -> None:
        """Parse `data`, which is one slice, and charge what is not body to the current request.

        Raises RequestError.
        """
        while True:
            self._slice_bytes = len(data)
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._ignore_upgrade()
            except httptools.HttpParserError as error:
                raise _request_error(error) from None
        # once per slice, not per callback: llhttp does not report the bytes of framing
        self._overhead += len(data)
        if self._overhead > self._max_overhead:
            raise RequestError("headers_too_large")
        # a large body must not save up credit for endless trailers
        if self._overhead < -self._max_overhead:
            self._overhead = -self._max_overhead
        if self._is_in_head:
            self._is_head_split = True

    def _ignore_upgrade(self) -> None:
        """Continue in HTTP/1.1 after a request that offered another protocol.

        llhttp skips such a request's body. A new parser reads it, after a head with the same framing.
        """
        framing = [b"%s: %s\r\n" % pair for pair in self._headers if pair[0] in _FRAMING_HEADERS]
        self._parser = self._new_parser()
        self._offers_upgrade, self._is_replay = False, True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        self._is_replay, self._overhead = False, 0

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # answered, then closed
        return parser

    def _next_slice_bytes(self) -> int:
        return _BODY_SLICE_BYTES if self._is_in_body else HEAD_SLICE_BYTES

    def _check_head(self, version: str) -> None:
        """Refuse a head that llhttp accepts but RFC 9112 forbids, or that exceeds the limits."""
        # proxies that disagree on which of two hosts counts can be made to poison a cache
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise RequestError("wrong_host")
        if version not in ("1.1", "1.0"):
            raise RequestError("wrong_version")
        # request smuggling: a proxy that decodes another coding sees another end of the body
        if self._has_unknown_coding:
            raise RequestError("unknown_coding")
        if len(self._headers) > _MAX_HEADERS:
            raise RequestError("headers_too_large")
        if (self._is_head_split or self._slice_bytes > self._max_overhead) and (
            self._head_bytes() > self._max_overhead
        ):
            raise RequestError("headers_too_large")

    def _head_bytes(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _scope(self, version: str) -> Scope:
        url = self._url
        if not url.startswith(b"/") or _HASH in url:
            # an invalid target raises the HttpParserError that the parser raises, too
            parsed = httptools.parse_url(url)
            url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,  # most need no unquoting
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
        }


def _request_error(error: httptools.HttpParserError) -> RequestError:
    if isinstance(error.__context__, RequestError):  # raised by one of the callbacks above
        return RequestError(error.__context__.reason)
    return RequestError("body_too_large" if str(error) == "Content-Length overflow" else "not_http")
