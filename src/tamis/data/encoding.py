"""The encoding of a text file, found piece by piece while the file is read.

Recognises byte-order marks and UTF-8; legacy encodings are detected by chardet.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from tamis.errors import DataError, MissingExtraError

# chunks of 1 MB: a row is held in memory as a whole, so a line without an end would fill it
_MAX_LINE_CHUNKS = 64
# the detector's time grows with the sample; pieces from many places say more than one long piece
_SAMPLE_BYTES = 200_000
_SAMPLE_BYTES_PER_CHUNK = 32_000
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# an escaped quote before more text, where plain CSV has a doubled one
_ESCAPED_QUOTE = re.compile(rb'\\"(?=[^",;|\t\r\n])')
_MIN_CONFIDENCE = 0.1  # below it the detector is no better than the commonest legacy encoding
# with fewer, no detector is reliable (docs/lab-notes.md, reading labelled files)
_FEW_ACCENTS = 10
# Windows' western encoding: what spreadsheets of that origin write
_COMMONEST = "cp1252"
_MAX_DAMAGE = 0.1  # share of damaged characters up to which a file counts as damaged UTF-8
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "latin_1": "cp1252",
}
"""Encodings that are read as a larger one: what software calls by the first name is mostly the second."""


def known_codec(name: str, path: Path) -> str:
    """Return the name in small letters; raise DataError unless Python knows the encoding."""
    try:
        # also refuses codecs that do not encode text, such as base64
        "".encode(name)
    except (LookupError, UnicodeError):
        problem = f"--encoding {name[:40]!r} is not a known encoding; examples: utf-8, cp1252, gb18030"
        raise DataError(problem, file=path) from None
    return name.lower()


class TextScan:
    """Looks at a text file piece by piece; knows its encoding at the end."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._path = path
        self._named = encoding
        self._encoding = encoding
        self.size = 0
        self._chunks_of_line = 0
        self._invalid_at: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._sample = bytearray()
        self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next piece."""
        if self.size == 0:
            self._encoding = self._encoding or _marked_encoding(chunk)
        codec = (self._encoding or "").replace("-", "").replace("_", "")
        is_wide = codec.startswith(("utf16", "utf32"))
        # every character of UTF-16 within ASCII has a NUL byte
        if not is_wide and b"\0" in chunk:
            at = self.size + chunk.index(b"\0")
            raise DataError(
                f"is binary, not text: byte {at} is NUL; save it as CSV in UTF-8", file=self._path
            )
        self._check_line_length(chunk)
        if self._named is None and not is_wide:
            self._check_utf8(chunk)
        self._is_escaped = self._is_escaped or _has_escaped_quote(chunk)
        self.size += len(chunk)

    def finish(self) -> tuple[str, float | None, int | None, bool]:
        """Return encoding, confidence, where UTF-8 is damaged, and whether quotes are escaped."""
        # the file ends within a character
        if self._invalid_at is None and self._named is None and self._decoder.getstate()[0]:
            self._invalid_at = self.size - len(self._decoder.getstate()[0])
            self._sample += self._decoder.getstate()[0]
        if self._invalid_at is None:
            return self._encoding or "utf-8", None, None, self._is_escaped
        # a file with a mark of UTF-8 is UTF-8, however damaged
        if self._encoding == "utf-8-sig" or _is_damaged_utf8(bytes(self._sample)):
            return self._encoding or "utf-8", None, self._invalid_at, self._is_escaped
        encoding, confidence = _detect(bytes(self._sample), self._path)
        return encoding, confidence, None, self._is_escaped

    def _check_utf8(self, chunk: bytes) -> None:
        # pure ASCII needs no decoding: most chunks of most files
        if chunk.isascii() and not self._decoder.getstate()[0]:
            return
        self._keep_sample(chunk)
        # after the first invalid byte only the sample matters
        if self._invalid_at is not None:
            return
        # bytes of a character that the chunk boundary cut in two
        kept_back = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError as failed:
            self._invalid_at = self.size - kept_back + failed.start

    def _keep_sample(self, chunk: bytes) -> None:
        """Keep lines from the first one with a byte beyond ASCII on."""
        room = min(_SAMPLE_BYTES - len(self._sample), _SAMPLE_BYTES_PER_CHUNK)
        if room <= 0:
            return
        # ASCII says nothing about the encoding
        beyond = re.search(rb"[\x80-\xff]", chunk)
        if beyond is not None:
            begin = max(chunk.rfind(b"\n", 0, beyond.start()) + 1, beyond.start() - room // 2)
            piece = chunk[begin : begin + room]
            self._sample += piece[: piece.rfind(b"\n") + 1] or piece  # no character is cut in two

    def _check_line_length(self, chunk: bytes) -> None:
        self._chunks_of_line = 0 if b"\n" in chunk or b"\r" in chunk else self._chunks_of_line + 1
        if self._chunks_of_line > _MAX_LINE_CHUNKS:
            problem = f"has a line of more than {_MAX_LINE_CHUNKS} MB; write one row per line"
            raise DataError(problem, file=self._path)


def _has_escaped_quote(chunk: bytes) -> bool:
    """Return whether an odd number of backslashes precedes a quote that neither begins nor ends a cell."""
    for found in _ESCAPED_QUOTE.finditer(chunk):
        before = chunk[: found.start()] if found.start() < 100 else chunk[found.start() - 100 : found.start()]
        if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
            return True
    return False


def _marked_encoding(start: bytes) -> str | None:
    """Return the encoding that a byte-order mark names, or UTF-16 without a mark by its NUL bytes."""
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    # in UTF-16, ASCII characters have a NUL byte, always on the same side
    even, odd = start[:64:2].count(0), start[1:64:2].count(0)
    if max(even, odd) >= 4 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return None


def _is_damaged_utf8(sample: bytes) -> bool:
    """Return whether nearly all characters beyond ASCII are UTF-8: a legacy encoding gives hardly one."""
    beyond = [character for character in sample.decode("utf-8", "replace") if not character.isascii()]
    damaged = beyond.count("\ufffd")
    return damaged < _MAX_DAMAGE * len(beyond)


def _detect(sample: bytes, path: Path) -> tuple[str, float]:
    """Return the most probable legacy encoding of `sample` and the detector's confidence."""
    try:
        import chardet
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"{path} is not UTF-8: name its encoding with --encoding; detecting it", "train"
        ) from None
    # almost any bytes are valid in EBCDIC, and tables are not exchanged in it
    era = chardet.EncodingEra.ALL & ~chardet.EncodingEra.MAINFRAME
    found = chardet.detect(sample, encoding_era=era)
    name, confidence = found["encoding"], float(found["confidence"])
    if name is None:
        raise DataError(
            "is neither text in UTF-8 nor in a known encoding; name it with --encoding", file=path
        )
    # an unreliable answer is replaced by the most frequent encoding, and the confidence shows it
    beyond = sum(byte >= 0x80 for byte in sample[:_SAMPLE_BYTES_PER_CHUNK])
    # in Cyrillic or Chinese nearly all characters are beyond ASCII: then even a short sample is evidence
    has_little_evidence = beyond < _FEW_ACCENTS and beyond < 0.3 * len(sample)
    if (confidence < _MIN_CONFIDENCE or has_little_evidence) and _decodes(sample, _COMMONEST):
        return _COMMONEST, min(confidence, _MIN_CONFIDENCE)
    codec = codecs.lookup(name).name
    return _SUPERSETS.get(codec, codec), confidence


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
