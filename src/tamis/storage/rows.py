"""The rows of the call log and of the feedback log, by name. Independent of stores.

A row's fields are the names of its columns in every store: a statement, a message and a document take their
columns from `columns_of`, and a stored row is decoded by the names that it was stored with. So a new field
with a default is a new column and a migration, and never shifts another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from tamis.errors import InputError
from tamis.storage.ids import ID_BYTES, text_digest


# gc=False: a row refers to nothing that could form a cycle, so the collector need not visit it
class LogRecord(Struct, frozen=True, gc=False):
    """What the rows of every log have: an id that sorts by time, a caller and a text."""

    id: bytes
    caller: str
    text: str


class CallRecord(LogRecord, frozen=True, gc=False):
    """One text of one call, and its prediction.

    `id` is the prediction's id, a time id of 16 bytes (`tamis.storage.ids`): it sorts by the time of the
    call. `model` is the digest of the model that answered. What comes after `from_cache` is None in rows of
    the versions that did not log it.
    """

    label: str
    score: float
    model: str
    from_cache: bool
    decision: str | None = None
    model_name: str | None = None
    model_version: str | None = None


class FeedbackRecord(LogRecord, frozen=True, gc=False, kw_only=True):
    """The true label of one text, as one caller reported it.

    `subject` says what the feedback is about: a prediction's id (16 bytes) or the keyed digest of a text (32
    bytes). A caller has one row for each subject; `id` is the time id of its first report, `revision` that of
    its last one. `predicted` and the model are those of the prediction.
    """

    subject: bytes
    label: str
    predicted: str | None = None
    model: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    comment: str = ""
    revision: bytes

    @property
    def prediction_id(self) -> bytes | None:
        """The prediction that the feedback is about, None if it is about a text."""
        return self.subject if len(self.subject) == ID_BYTES else None


Record = TypeVar("Record", bound=LogRecord)

_TEXT_DIGEST = re.compile(r"digest:[0-9a-f]{64}")


def hidden_text(text: str, secret: bytes) -> str:
    """Return the keyed digest that is logged in the place of a text; equal texts have equal digests."""
    # a digest stays as it is: a row that is written again must not get another one
    return text if not is_text_kept(text) else f"digest:{text_digest(secret, text).hex()}"


def is_text_kept(text: str) -> bool:
    """Return whether a row has its text, not a digest or nothing in its place."""
    return text != "" and not _TEXT_DIGEST.fullmatch(text)


def columns_of(record: type[Struct]) -> tuple[str, ...]:
    """Return the names of a record's columns."""
    return record.__struct_fields__


def from_columns(record: type[Record], names: Sequence[str], values: Sequence[object]) -> Record:
    """Return the record of one stored row; 0 and 1 are taken for booleans, which SQLite lacks."""
    return msgspec.convert(dict(zip(names, values, strict=True)), record, strict=False)


def check_calls(calls: Iterable[CallRecord]) -> None:
    """Refuse what some store could not keep, before it shares a transaction with others."""
    for call in calls:
        if not math.isfinite(call.score):
            raise InputError("score_not_finite", "a logged score must be a finite number", field="score")
        # nothing is encoded in the common case; the other fields are set by the model, not by the caller
        if not (
            call.text.isascii() and call.label.isascii() and call.caller.isascii() and call.model.isascii()
        ):
            check_encodable(call, ("text", "caller", "label", "model"))


def revised(row: FeedbackRecord, later: FeedbackRecord) -> FeedbackRecord:
    """Return a row of feedback with the label and comment of a later report about the same subject."""
    return msgspec.structs.replace(row, label=later.label, comment=later.comment, revision=later.revision)


def check_feedback(feedback: FeedbackRecord) -> None:
    """Refuse what some store could not keep."""
    check_encodable(feedback, ("text", "caller", "label", "comment"))


def check_encodable(record: Struct, fields: Sequence[str]) -> None:
    """Raise InputError if a field contains an unpaired surrogate, which no store can keep."""
    for field in fields:
        try:
            (getattr(record, field) or "").encode()
        except UnicodeEncodeError:
            message = f"{field} contains an unpaired surrogate"
            raise InputError("lone_surrogate", message, field=field) from None
