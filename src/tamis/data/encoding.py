"""What a data file is as bytes: its digest, its type, its encoding and how its quotes are escaped.

A file is read once, in pieces, before its rows are. Knows byte-order marks and UTF-8; legacy
encodings are detected by chardet. Does not know columns or rows.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from tamis.data.file_types import START_BYTES, FileType, check_text_start, file_type
from tamis.errors import DataError, MissingExtraError

_CHUNK_BYTES = 1 << 20
_MAX_LINE_CHUNKS = 64
_SAMPLE_BYTES = 200_000
_SAMPLE_BYTES_PER_CHUNK = 32_000
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_ESCAPED_QUOTE = re.compile(rb'\\"(?=[^",;|\t\r\n])')
_MIN_CONFIDENCE = 0.1  # below it the detector is no better than the commonest legacy encoding
_FEW_ACCENTS = 10
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


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as bytes.

    encoding:        a codec name; None for types that are no text
    confidence:      of a detected encoding, 0 to 1; None if it was named or is certain
    damaged_at:      offset of the first byte that is not UTF-8 in a file that is UTF-8 otherwise
    is_escaped:      whether a backslash precedes a quote inside a text, which plain CSV never has
    """

    path: Path
    sha256: str
    size_bytes: int
    type: FileType
    encoding: str | None
    confidence: float | None = None
    damaged_at: int | None = None
    is_escaped: bool = False

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed about the encoding, one phrase each."""
        if self.confidence is not None:
            return (f"encoding {self.encoding} (detected, confidence {self.confidence:.0%})",)
        if self.damaged_at is not None:
            return (f"UTF-8 with damaged characters, the first at byte {self.damaged_at}",)
        return ()

    def open_text(self) -> tuple[TextIO, BinaryIO]:
        """Open the decoded text, and the file itself, whose position tells how far reading is."""
        file = self.path.open("rb")
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if self.type == "gzip" else file
        errors = "replace" if self.damaged_at is not None else "strict"
        return io.TextIOWrapper(stream, encoding=self.encoding, errors=errors, newline=""), file


def inspect_file(path: Path, encoding: str | None = None) -> FileFacts:
    """Read `path` once for its digest and encoding; raise DataError if it cannot hold labelled texts.

    `encoding` names it if the user knows it.
    """
    if encoding is not None:
        encoding = _known_codec(encoding, path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError("is a folder, not a data file", file=path)
        if not stat.S_ISREG(mode):
            raise DataError("is not a regular file; save it to one, because it is read twice", file=path)
        with path.open("rb") as file:
            return _inspect(path, file, encoding)
    except (gzip.BadGzipFile, EOFError, zlib.error) as broken:
        problem = "is a damaged or incomplete gzip file; download or compress it again"
        raise DataError(problem, file=path) from broken
    except OSError as failed:
        raise DataError(f"cannot be read: {failed.strerror}", file=path) from failed


def _known_codec(name: str, path: Path) -> str:
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        problem = f"--encoding {name[:40]!r} is not a known encoding; examples: utf-8, cp1252, gb18030"
        raise DataError(problem, file=path) from None
    return name.lower()


def _inspect(path: Path, file: BinaryIO, encoding: str | None) -> FileFacts:
    start = file.read(START_BYTES)
    type_ = file_type(path, start)
    file.seek(0)
    source = _HashedFile(file)
    if type_ in ("xlsx", "parquet"):
        while source.read(_CHUNK_BYTES):
            pass
        return FileFacts(path, source.digest.hexdigest(), source.size_bytes, type_, None)
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, source))) if type_ == "gzip" else source
    scan = _TextScan(path, encoding)
    while chunk := stream.read(_CHUNK_BYTES):
        scan.feed(chunk)
    found = scan.finish()
    while source.read(_CHUNK_BYTES):  # what may follow the compressed part
        pass
    return FileFacts(path, source.digest.hexdigest(), source.size_bytes, type_, *found)


class _HashedFile:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        data = self._file.read(size)
        self.digest.update(data)
        self.size_bytes += len(data)
        return data


class _TextScan:
    """Looks at a text file piece by piece; knows its encoding at the end."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._path = path
        self._named = encoding
        self._encoding = encoding
        self._size = 0
        self._chunks_of_line = 0
        self._invalid_at: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._sample = bytearray()
        self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next piece."""
        if self._size == 0:
            check_text_start(self._path, chunk[:START_BYTES])
            self._encoding = self._encoding or _marked_encoding(chunk)
        is_wide = self._encoding is not None and self._encoding.replace("-", "").startswith(
            ("utf16", "utf32")
        )
        if not is_wide and b"\0" in chunk:
            at = self._size + chunk.index(b"\0")
            raise DataError(
                f"is binary, not text: byte {at} is NUL; save it as CSV in UTF-8", file=self._path
            )
        self._check_line_length(chunk)
        if self._named is None and not is_wide:
            self._check_utf8(chunk)
        self._is_escaped = self._is_escaped or _has_escaped_quote(chunk)
        self._size += len(chunk)

    def finish(self) -> tuple[str, float | None, int | None, bool]:
        """Return encoding, confidence, where UTF-8 is damaged, and whether quotes are escaped."""
        if self._invalid_at is None and self._named is None and self._decoder.getstate()[0]:
            self._invalid_at = self._size - len(self._decoder.getstate()[0])
            self._sample += self._decoder.getstate()[0]
        if self._invalid_at is None:
            return self._encoding or "utf-8", None, None, self._is_escaped
        if self._encoding == "utf-8-sig" or _is_damaged_utf8(bytes(self._sample)):
            return self._encoding or "utf-8", None, self._invalid_at, self._is_escaped
        encoding, confidence = _detect(bytes(self._sample), self._path)
        return encoding, confidence, None, self._is_escaped

    def _check_utf8(self, chunk: bytes) -> None:
        if chunk.isascii() and not self._decoder.getstate()[0]:
            return
        self._keep_sample(chunk)
        if self._invalid_at is not None:
            return
        kept_back = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError as failed:
            self._invalid_at = self._size - kept_back + failed.start

    def _keep_sample(self, chunk: bytes) -> None:
        """Keep lines from the first one with a byte beyond ASCII on."""
        room = min(_SAMPLE_BYTES - len(self._sample), _SAMPLE_BYTES_PER_CHUNK)
        if room <= 0:
            return
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


def _is_wide(encoding: str) -> bool:
    """Return whether every character of the encoding takes two bytes or more: NUL bytes are normal in it."""
    return encoding.replace("-", "").replace("_", "").startswith(("utf16", "utf32"))


def _marked_encoding(start: bytes) -> str | None:
    """Return the encoding that a byte-order mark names, or UTF-16 without a mark by its NUL bytes."""
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
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
    era = chardet.EncodingEra.ALL & ~chardet.EncodingEra.MAINFRAME
    found = chardet.detect(sample, encoding_era=era)
    name, confidence = found["encoding"], float(found["confidence"])
    if name is None:
        raise DataError(
            "is neither text in UTF-8 nor in a known encoding; name it with --encoding", file=path
        )
    if (confidence < _MIN_CONFIDENCE or _has_little_evidence(sample)) and _decodes(sample, _COMMONEST):
        return _COMMONEST, min(confidence, _MIN_CONFIDENCE)
    codec = codecs.lookup(name).name
    return _SUPERSETS.get(codec, codec), confidence


def _has_little_evidence(sample: bytes) -> bool:
    """Return whether there are only a few accents, sparse among ASCII letters."""
    beyond = sum(byte >= 0x80 for byte in sample[:_SAMPLE_BYTES_PER_CHUNK])
    return beyond < _FEW_ACCENTS and beyond < 0.3 * len(sample)


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
