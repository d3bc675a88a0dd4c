"""Bodies of lines, read as they arrive: decompressed, split, and the text of each line extracted.

    receive ─► BodyPieces (gzip) ─► NdjsonLines or CsvLines ─► TextLine: a text or an error

Memory is bounded: one piece and one unfinished line. A line that cannot be read gets an error that names it,
and the lines after it are still read.
"""

from __future__ import annotations

import asyncio
import codecs
import csv
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import NamedTuple

from starlette.types import Receive

from tamis.errors import InputError
from tamis.service.request_body import broken_coding, content_coding, parse_json, shown_name

# bounds what a compressed body expands to at a time: gzip shrinks repeated bytes by a factor of 1,000
_PIECE_BYTES = 65_536
# possessive quantifiers (`*+`) do not backtrack: a line of many quotes takes linear time
_FIELD = re.compile(rb'(?:"(?:[^"]|"")*+(?P<open>\Z)|"(?:[^"]|"")*+"|)[^,]*+(?:,|\Z)')
"""One field of a line; `open` matches if a quoted field continues in the next line."""
_REST = re.compile(rb'(?:[^"]|"")*+(?P<open>\Z|")')
"""The rest of a quoted field that began on an earlier line; `open` is empty if it still continues."""


class TextLine(NamedTuple):
    """One line's text, or the `error` of a line without a valid one."""

    text: str
    error: InputError | None = None


class LineOptions(NamedTuple):
    """The limits of a line, and the field or column of its text."""

    column: str
    max_line_bytes: int
    max_text_chars: int
    has_header: bool = True


class BodyPieces:
    """Yields a body in bounded pieces, decompressed.

    `is_whole` is False if the client disconnected before the end.
    """

    def __init__(self, headers: Mapping[bytes, bytes], receive: Receive):
        self._window_bits, self._receive = content_coding(headers), receive
        self.is_whole = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpacker = None if self._window_bits is None else zlib.decompressobj(self._window_bits)
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_whole = False
                return
            data, more = message.get("body", b""), message.get("more_body", False)
            for piece in (data,) if unpacker is None else _decompressed(unpacker, data):
                yield piece
                await asyncio.sleep(0)  # a body that arrived already must not keep other requests waiting
        if unpacker is not None and not unpacker.eof:
            raise broken_coding()


def _decompressed(unpacker: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Yield the content of compressed data in bounded pieces."""
    while data:
        try:
            piece = unpacker.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise broken_coding() from None
        if unpacker.unused_data:  # a second stream after the first: a reader that ignores it would lose lines
            raise broken_coding()
        yield piece
        data = unpacker.unconsumed_tail
    # zlib may hold back output although it has consumed all input
    while not unpacker.eof and (piece := unpacker.decompress(b"", _PIECE_BYTES)):
        yield piece


class LineReader(ABC):
    """Splits a body into lines and reads each; keeps at most one unfinished line."""

    def __init__(self, options: LineOptions):
        self._options = options
        self._rest = bytearray()
        self._number = 0
        """The number of the last line that was read, from 1; for messages."""
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[TextLine]:
        """Yield the lines that `piece` completes."""
        end = piece.rfind(b"\n") + 1
        if end:
            block = bytes(self._rest) + piece[:end]
            self._rest = bytearray(piece[end:])
            yield from self._read(self._unmarked(block))
        else:
            self._rest += piece
        # of an overlong line just enough is kept to recognise it as too long
        del self._rest[self._options.max_line_bytes + 1 :]

    def end(self) -> Iterator[TextLine]:
        """Yield the last line of the body if it has no line break."""
        block, self._rest = bytes(self._rest), bytearray()
        if block:
            yield from self._read(self._unmarked(block))

    @abstractmethod
    def _read(self, block: bytes) -> Iterator[TextLine]:
        """Yield the texts of whole lines."""

    def _unmarked(self, block: bytes) -> bytes:
        """Remove a byte order mark from the start of the body."""
        is_first, self._is_first = self._is_first, False
        return block.removeprefix(codecs.BOM_UTF8) if is_first else block

    def _checked(self, text: object, number: int, name: str) -> TextLine:
        """Return the text of a line, or the error that names the line."""
        if not isinstance(text, str):
            return _refused("wrong_type", f"line {number}: {name} must be a string")
        limit = self._options.max_text_chars
        if len(text) > limit:
            return _refused("text_too_long", f"line {number}: {name} is longer than {limit} characters")
        return TextLine(text)

    def _too_long(self, number: int) -> InputError:
        message = f"line {number} is longer than {self._options.max_line_bytes} bytes"
        return InputError("text_too_long", message, field="body")


def _refused(code: str, message: str) -> TextLine:
    return TextLine("", InputError(code, message, field="body"))


class NdjsonLines(LineReader):
    """Reads one JSON value per line: a string, or an object with the text in one field."""

    def _read(self, block: bytes) -> Iterator[TextLine]:
        for line in block.removesuffix(b"\n").split(b"\n"):
            self._number += 1
            if len(line) > self._options.max_line_bytes:
                yield TextLine("", self._too_long(self._number))
            elif line and not line.isspace():
                yield self._line(line, self._number)

    def _line(self, line: bytes, number: int) -> TextLine:
        try:
            value = parse_json(line, f"line {number}")
        except InputError as invalid:
            # a message about a field, such as a duplicate one, does not name the line yet
            message, line_name = str(invalid), f"line {number}"
            named = message if message.startswith(line_name) else f"{line_name}: {message}"
            return _refused(invalid.code, named)
        if not isinstance(value, dict):
            return self._checked(value, number, "the value")
        name = shown_name(self._options.column)
        if self._options.column not in value:
            return _refused("missing_field", f"line {number}: missing field {name}")
        return self._checked(value[self._options.column], number, name)


class CsvLines(LineReader):
    """Reads CSV records with commas, quoted by RFC 4180; a record may span lines.

    Without a header every record has one field, the text.
    """

    def __init__(self, options: LineOptions):
        super().__init__(options)
        # a limit of the whole process (131,072 by default), so it is only ever raised
        csv.field_size_limit(max(csv.field_size_limit(), options.max_line_bytes))
        self._open = bytearray()
        self._first_line = 1
        self._index: int | None = None if options.has_header else 0

    def end(self) -> Iterator[TextLine]:
        """Yield the last record; a quoted field that does not end is an error."""
        yield from super().end()
        if self._open:
            yield _refused("wrong_type", f"line {self._first_line}: a quoted field does not end")
        # an empty body, or a header that never ended
        if self._index is None:
            raise self._without_column()

    def _read(self, block: bytes) -> Iterator[TextLine]:
        # splitlines is faster, but would also split at a lone \r, which may be within a text
        for line in block.splitlines(keepends=True) if b"\r" not in block else _physical_lines(block):
            self._number += 1
            if not self._open:
                self._first_line = self._number
            # a line without quotes opens and closes nothing, so most lines never meet the expressions
            if b'"' in line and _is_open(line, bool(self._open)) or self._open and b'"' not in line:
                self._open += line
                # not an error of one record: where the next one begins cannot be known
                if len(self._open) > self._options.max_line_bytes:
                    raise self._too_long(self._first_line)
            elif self._open:
                record, self._open = bytes(self._open) + line, bytearray()
                yield from self._record(record)
            else:
                yield from self._record(line)

    def _record(self, data: bytes) -> Iterator[TextLine]:
        number = self._first_line
        if len(data) > self._options.max_line_bytes:
            yield TextLine("", self._too_long(number))
            return
        try:
            fields = next(csv.reader([data.decode()], strict=True), [])
        except UnicodeDecodeError:
            yield _refused("not_csv", f"line {number} is not valid UTF-8")
            return
        except csv.Error:
            yield _refused("not_csv", f"line {number} is not CSV: a quote within a field must be doubled")
            return
        if not fields:
            return  # a blank line
        if self._index is None:
            self._index = self._header(fields)
        else:
            yield self._field(fields, self._index, number)

    def _header(self, names: list[str]) -> int:
        found = names.count(self._options.column)
        if found > 1:
            message = f"duplicate column {shown_name(self._options.column)} in the header"
            raise InputError("duplicate_field", message, field="body")
        if not found:
            raise self._without_column()
        return names.index(self._options.column)

    def _without_column(self) -> InputError:
        message = (
            f"the header has no column {shown_name(self._options.column)}; name one with `text_column`, "
            "or send one text per line with the content type `text/csv; header=absent`"
        )
        return InputError("missing_field", message, field="text_column")

    def _field(self, fields: list[str], index: int, number: int) -> TextLine:
        if index >= len(fields):
            return _refused("missing_field", f"line {number} has only {len(fields)} fields")
        if not self._options.has_header and len(fields) > 1:
            return _refused(
                "wrong_type", f"line {number} has {len(fields)} fields; without a header send one"
            )
        return self._checked(fields[index], number, shown_name(self._options.column))


def _physical_lines(block: bytes) -> Iterator[bytes]:
    """Yield lines with their line breaks; only a line feed ends one."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start) + 1 or len(block)
        yield block[start:end]
        start = end


def _is_open(line: bytes, is_open: bool) -> bool:
    """Return whether a quoted field continues after `line`, given whether one was open before it."""
    position = 0
    if is_open:
        closing = _REST.match(line)
        if closing is None or not closing["open"]:
            return True
        position = line.find(b",", closing.end()) + 1
        if not position:
            return False
    while position < len(line):
        field = _FIELD.match(line, position)
        if field is None or field["open"] is not None:
            return True
        position = max(field.end(), position + 1)  # an empty match must not loop endlessly
    return False
