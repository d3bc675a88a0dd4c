"""How logged calls are written out, page after page, as one document.

Knows records and the forms JSON, CSV and NDJSON; knows neither HTTP nor a store.
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, final

import msgspec

from tamis.service.bodies import LoggedCallResponse
from tamis.storage import CallRecord, HourCount, called_at
from tamis.storage.ids import uuid_text

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines

_STARTS = r"=+\-@'＝＋－＠"
_INVISIBLE = rf"[^\w!-~{_STARTS}]"
"""What a spreadsheet may drop before it looks at a cell, as LibreOffice drops NUL: neither a letter, a
digit nor printable ASCII. Regular expressions, because a text may have thousands of them."""
_FORMULA = re.compile(rf"{_INVISIBLE}*+[{_STARTS}]|[\t\r\n]")
_FORMULA_WITHIN = re.compile(
    # a spreadsheet may split a line there too: Excel at `;` alone in half of Europe
    rf"([;\t\r\n])(?=[^\w!-~{_STARTS}\t\r\n]*+[{_STARTS}])"
    # a smiley `;-)` stays as it is: nothing that can be computed begins with a closing parenthesis
    r"(?![-+]\))"
)


class Form(ABC):
    """Writes the calls of one document: `head`, then `rows` for each page, then `tail`."""

    media_type: str
    is_whole: bool
    """Whether the document goes on to the last call, having no place for a cursor."""
    head: bytes = b""

    @abstractmethod
    def rows(self, calls: Sequence[CallRecord]) -> bytes:
        """Return the next page's part."""

    def tail(self, cursor: str | None) -> bytes:
        """Return the end; `cursor` leads to the calls behind it."""
        return b""


class _JsonForm(Form):
    """A JSON array that is written in parts; each object belongs to one document."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._count = 0

    @abstractmethod
    def _item(self, call: CallRecord, index: int) -> Any: ...

    def rows(self, calls: Sequence[CallRecord]) -> bytes:
        items = _encode([self._item(call, index) for index, call in enumerate(calls, self._count)])[1:-1]
        comma = b"," if self._count and calls else b""
        self._count += len(calls)
        return comma + items


@final
class RecentJson(_JsonForm):
    """The list of `GET /recent_log`."""

    is_whole = True
    head = b"["

    def _item(self, call: CallRecord, index: int) -> dict[str, object]:
        return {"index": index, "input": call.text, "called_at": timestamp(called_at(call.id))}

    def tail(self, cursor: str | None) -> bytes:
        """Close the list."""
        return b"]"


@final
class CallsJson(_JsonForm):
    """A `LogPageResponse`."""

    is_whole = False
    head = b'{"calls":['

    def _item(self, call: CallRecord, index: int) -> dict[str, object]:
        return logged_call(call)

    def tail(self, cursor: str | None) -> bytes:
        """Close the list and say where the next one begins."""
        return b'],"next_cursor":' + _encode(cursor) + b"}"


@final
class CallsNdjson(Form):
    """One `LoggedCallResponse` per line; texts stand in it as they were sent."""

    media_type = "application/x-ndjson"
    is_whole = True

    def rows(self, calls: Sequence[CallRecord]) -> bytes:
        """Return a line for each call."""
        return _encode_lines(map(logged_call, calls))


@final
class CallsCsv(Form):
    """A CSV file with a header that is safe to open in a spreadsheet.

    A caller chooses the texts, an operator opens the file: what a spreadsheet could take for a formula
    gets an apostrophe in front (`guarded`), and every text is quoted: a text with a semicolon would
    otherwise be two cells in a spreadsheet that splits at commas and semicolons.
    """

    media_type = "text/csv; charset=utf-8; header=present"
    is_whole = True
    head = ",".join(LoggedCallResponse.model_fields).encode() + b"\r\n"

    def rows(self, calls: Sequence[CallRecord]) -> bytes:
        """Return a line for each call."""
        lines = io.StringIO(newline="")
        csv.writer(lines, quoting=csv.QUOTE_NONNUMERIC).writerows(map(_cells, calls))
        return lines.getvalue().encode()


FORMS: dict[str, type[Form]] = {"json": CallsJson, "csv": CallsCsv, "ndjson": CallsNdjson}
"""The forms of a search, by the name that asks for them."""


def logged_call(call: CallRecord) -> dict[str, object]:
    """Return what is shown of a logged call."""
    return {
        "id": uuid_text(call.id),
        "called_at": timestamp(called_at(call.id)),
        "caller": call.caller,
        "input": call.text,
        "label": call.label,
        "score": call.score,
        "model": call.model,
        "from_cache": call.from_cache,
        "decision": call.decision,
        "model_name": call.model_name,
        "model_version": call.model_version,
    }


def summary_document(counts: Sequence[HourCount]) -> dict[str, object]:
    """Return the document of `GET /log/summary`."""
    return {"counts": [{"hour": one.hour, "label": one.label, "count": one.count} for one in counts]}


def timestamp(moment: datetime) -> str:
    """Return a UTC moment in RFC 3339, always with its microseconds."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _cells(call: CallRecord) -> tuple[object, ...]:
    """Return the values of a `LoggedCallResponse`, in its order."""
    return (
        uuid_text(call.id),
        timestamp(called_at(call.id)),
        guarded(call.caller),
        guarded(call.text),
        guarded(call.label),
        call.score,
        guarded(call.model),
        "true" if call.from_cache else "false",
        guarded(call.decision or ""),
        guarded(call.model_name or ""),
        guarded(call.model_version or ""),
    )


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, whatever invisible characters come first.

    An apostrophe is put before a text that looks like a formula or begins with an apostrophe, a tab or a
    line break, and likewise after each `;`, tab and line break in it. Taking one apostrophe away at each
    of these places, `re.sub(r"(^|[;\\t\\r\\n])'", r"\\1", cell)`, gives the exact text back.
    """
    within = _FORMULA_WITHIN.sub(r"\1'", text)
    return f"'{within}" if _FORMULA.match(text) else within
