"""The formats of the logs: JSON, NDJSON and CSV, written page by page as one document.

    row of the call log or feedback log ─► dictionary (`Document`) ─► JSON page, JSON line or CSV record

Independent of HTTP and of the store.
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, final

import msgspec

from tamis.service.bodies import FeedbackResponse, LoggedCallResponse
from tamis.storage import CallRecord, FeedbackRecord, HourCount, called_at
from tamis.storage.ids import uuid_text

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines

_STARTS = r"=+\-@'＝＋－＠"
_INVISIBLE = rf"[^\w!-~{_STARTS}]"
"""Characters that a spreadsheet may drop from the start of a cell, as LibreOffice drops NUL: neither letters,
digits nor printable ASCII. By regular expressions: for thousands of them, a Python loop took milliseconds."""
_FORMULA = re.compile(rf"{_INVISIBLE}*+[{_STARTS}]|[\t\r\n]")
_FORMULA_WITHIN = re.compile(
    # a spreadsheet may split a line there, too: Excel at `;` instead of `,` in half of Europe
    rf"([;\t\r\n])(?=[^\w!-~{_STARTS}\t\r\n]*+[{_STARTS}])"
    # a smiley `;-)` stays as it is: no formula begins with a closing parenthesis
    r"(?![-+]\))"
)

Document = Callable[[Any], dict[str, object]]
"""Returns the public fields of a row."""


class LogFormat(ABC):
    """Writes the rows of one log as one document: `head`, then `rows` for each page, then `tail`."""

    media_type: str
    is_whole: bool
    """Whether the document continues to the last row because it cannot contain a cursor."""
    head: bytes = b""

    @abstractmethod
    def rows(self, rows: Sequence[Any]) -> bytes:
        """Return the part of the next page."""

    def tail(self, cursor: str | None) -> bytes:
        """Return the end; `cursor` is that of the next page."""
        return b""


class _JsonArray(LogFormat):
    """A JSON array that is written in parts; an instance writes one document."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._count = 0

    @abstractmethod
    def _item(self, row: Any, index: int) -> dict[str, object]: ...

    def rows(self, rows: Sequence[Any]) -> bytes:
        # encoded as an array without its brackets: one call for a page
        items = _encode([self._item(row, index) for index, row in enumerate(rows, self._count)])[1:-1]
        comma = b"," if self._count and rows else b""
        self._count += len(rows)
        return comma + items


@final
class RecentCallsJson(_JsonArray):
    """The list of `GET /recent_log`."""

    is_whole = True
    head = b"["

    def _item(self, row: CallRecord, index: int) -> dict[str, object]:
        return {"index": index, "input": row.text, "called_at": timestamp(called_at(row.id))}

    def tail(self, cursor: str | None) -> bytes:
        """Close the list."""
        return b"]"


@final
class JsonPage(_JsonArray):
    """One page of a log and the cursor of the next: `{"calls": […], "next_cursor": …}`."""

    is_whole = False

    def __init__(self, name: str, document: Document):
        super().__init__()
        self.head, self._document = b'{"%s":[' % name.encode(), document

    def _item(self, row: Any, index: int) -> dict[str, object]:
        return self._document(row)

    def tail(self, cursor: str | None) -> bytes:
        """Close the list and add the cursor of the next page."""
        return b'],"next_cursor":' + _encode(cursor) + b"}"


@final
class Ndjson(LogFormat):
    """One JSON object per line; texts are as they were sent."""

    media_type = "application/x-ndjson"
    is_whole = True

    def __init__(self, document: Document):
        self._document = document

    def rows(self, rows: Sequence[Any]) -> bytes:
        """Return a line for each row."""
        return _encode_lines(map(self._document, rows))


@final
class SafeCsv(LogFormat):
    """A CSV file with a header that is safe to open in a spreadsheet.

    Callers choose the texts and an operator opens the file. What a spreadsheet could take for a formula is
    preceded by an apostrophe (`guarded`), and every text is quoted: one with a semicolon would otherwise be
    two cells in a spreadsheet that splits at commas and semicolons.
    """

    media_type = "text/csv; charset=utf-8; header=present"
    is_whole = True

    def __init__(self, columns: Sequence[str], document: Document):
        self._columns, self._document = columns, document
        self.head = ",".join(columns).encode() + b"\r\n"

    def rows(self, rows: Sequence[Any]) -> bytes:
        """Return a line for each row."""
        lines = io.StringIO(newline="")
        documents = map(self._document, rows)
        cells = ([_cell(document[name]) for name in self._columns] for document in documents)
        # every text quoted, also an empty one: numbers stay numbers
        csv.writer(lines, quoting=csv.QUOTE_NONNUMERIC).writerows(cells)
        return lines.getvalue().encode()


LogFormats = dict[str, Callable[[], LogFormat]]
"""The formats of a log by name."""


def formats_of(name: str, columns: Sequence[str], document: Document) -> LogFormats:
    """Return the formats of a log; `name` is the field of the rows in its JSON pages."""
    return {
        "json": lambda: JsonPage(name, document),
        "csv": lambda: SafeCsv(columns, document),
        "ndjson": lambda: Ndjson(document),
    }


def call_document(call: CallRecord) -> dict[str, object]:
    """Return the public fields of a logged call."""
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


def feedback_document(row: FeedbackRecord) -> dict[str, object]:
    """Return the public fields of feedback."""
    return {
        "id": uuid_text(row.id),
        "prediction_id": None if row.prediction_id is None else uuid_text(row.prediction_id),
        "caller": row.caller,
        "input": row.text,
        "label": row.label,
        "predicted": row.predicted,
        "model": row.model,
        "model_name": row.model_name,
        "model_version": row.model_version,
        "comment": row.comment,
        "created_at": timestamp(called_at(row.id)),
        "updated_at": timestamp(called_at(row.revision)),
    }


CALL_FORMATS = formats_of("calls", [*LoggedCallResponse.model_fields], call_document)
FEEDBACK_FORMATS = formats_of("feedback", [*FeedbackResponse.model_fields], feedback_document)


def summary_document(counts: Sequence[HourCount]) -> dict[str, object]:
    """Return the document of `GET /log/summary`."""
    return {"counts": [{"hour": one.hour, "label": one.label, "count": one.count} for one in counts]}


def timestamp(moment: datetime) -> str:
    """Return a UTC time in RFC 3339, always with microseconds: the strings sort like the times."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _cell(value: object) -> object:
    if isinstance(value, bool):  # as in JSON, instead of Python's `True`
        return "true" if value else "false"
    return value if isinstance(value, float) else guarded(str("" if value is None else value))


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, whatever invisible characters come first.

    An apostrophe is inserted before a text that looks like a formula or begins with an apostrophe, a tab or a
    line break, and likewise after each `;`, tab and line break in it. Removing one apostrophe at each of
    these positions, `re.sub(r"(^|[;\\t\\r\\n])'", r"\\1", cell)`, restores the exact text.
    """
    within = _FORMULA_WITHIN.sub(r"\1'", text)
    return f"'{within}" if _FORMULA.match(text) else within
