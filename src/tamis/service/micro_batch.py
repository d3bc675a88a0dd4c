"""Requests that wait for `ClassifyService`, and the batches in which they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tamis.inference.batcher import Outcome
from tamis.inference.served_model import ServedModel
from tamis.storage import CallRecord
from tamis.types import Prediction

_MAX_BATCH_TEXTS = 128
"""Calls of one turn are answered together, but not so many that the first wait long for the last."""

Known = Mapping[bytes, Prediction]
"""Answers by cache key."""


class Classified(msgspec.Struct, frozen=True, gc=False):
    """The prediction for one text, its id in the call log, and whether it was cached."""

    prediction: Prediction
    from_cache: bool
    id: bytes


class PendingRequest(msgspec.Struct, eq=False):
    """The texts of one request, until their predictions are logged."""

    model: ServedModel
    texts: Sequence[str]
    caller: str
    logged_as: str
    skip_cache: bool
    ids: Sequence[bytes]
    future: asyncio.Future[list[Classified]]
    keys: Sequence[bytes] = ()
    forms: Sequence[str] = ()
    """Each text in the model's form."""

    def fail(self, error: BaseException) -> None:
        """Raise an error in the caller, unless it has left."""
        if not self.future.done():
            self.future.set_exception(error)

    def answer(self, known: Known, fresh: Mapping[bytes, Outcome]) -> list[Classified] | None:
        """Put the answer together; None where the caller has left, or the model fails on one of the texts."""
        answer: list[Classified] = []
        for id, key in zip(self.ids, self.keys, strict=True):
            found = known.get(key)
            if found is not None:
                answer.append(Classified(found, True, id))
                continue
            outcome = fresh[key]
            if isinstance(outcome, Exception):
                self.fail(outcome)
                return None
            answer.append(Classified(outcome, False, id))
        return None if self.future.done() else answer

    def rows(self, answer: Sequence[Classified], texts: Sequence[str]) -> list[CallRecord]:
        """Return the rows of the call log, with what is to be logged of the texts."""
        caller, model = self.logged_as, self.model.classifier
        digest, name, version = model.identity, model.name, model.version
        rows = []
        for text, one in zip(texts, answer, strict=True):
            prediction = one.prediction
            # by position: keywords would take twice as long
            row = CallRecord(
                one.id,
                caller,
                text,
                prediction.label,
                prediction.score,
                digest,
                one.from_cache,
                prediction.decision,
                name,
                version,
            )
            rows.append(row)
        return rows


class MicroBatch(msgspec.Struct, eq=False):
    """Calls that are looked up, computed and logged together."""

    model: ServedModel
    skip_cache: bool
    calls: list[PendingRequest] = []
    texts: int = 0

    def has_room_for(self, call: PendingRequest) -> bool:
        """Return whether a request can join."""
        return (
            self.model is call.model
            and self.skip_cache is call.skip_cache
            and self.texts + len(call.texts) <= _MAX_BATCH_TEXTS
        )

    def add(self, call: PendingRequest) -> None:
        """Take a request."""
        self.calls.append(call)
        self.texts += len(call.texts)


def fail_all(calls: Iterable[PendingRequest], error: BaseException) -> None:
    """Raise an error in the callers of several requests."""
    for call in calls:
        call.fail(error)
