"""Standard output in any encoding: what it cannot express is escaped, and no command fails for it."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys

import click

_HANDLER = "tamis.escape"
_ASCII = "tamis_ascii"
_UNDECODED = re.compile("[\udc80-\udcff]")


def escape_unencodable_output() -> None:
    r"""Write characters that standard output and error cannot encode as `\uXXXX`.

    In JSON that is the same text; elsewhere it can be read. UTF-8 lacks only unpaired surrogates.
    """
    codecs.register_error(_HANDLER, _escaped)
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII if is_ascii else stream.encoding, errors=_HANDLER)


def _find_codec(name: str) -> codecs.CodecInfo | None:
    """Give ASCII another name: click takes the usual one for a mistake and writes UTF-8 all the same."""
    if name != _ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        plain.incrementaldecoder,
        name=_ASCII,
    )


def decoded_argument(text: str) -> str:
    """Return a command-line argument that is UTF-8 as text, also if the locale says it is not.

    Python keeps bytes that the locale cannot decode as unpaired surrogates.
    """
    try:
        return os.fsencode(text).decode("utf-8") if _UNDECODED.search(text) else text
    except UnicodeError:
        raise click.UsageError("a text is not valid UTF-8") from None


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end
