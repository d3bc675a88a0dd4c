"""Requests that wait for `ClassifyService`, and the batches in which they are processed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tamis.inference.batcher import Outcome
from tamis.inference.served_model import ServedModel
from tamis.storage import CallRecord
from tamis.types import Prediction

_MAX_BATCH_TEXTS = 128
"""Requests of one event-loop iteration share a batch up to this size: beyond it, the first would wait long
for the last. A longer list is a batch of its own."""

Known = Mapping[bytes, Prediction]
"""Answers by cache key."""


# gc=False: it refers to no other container that could refer back, so the collector need not track it
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
    """Each text as the model normalises it."""

    def fail(self, error: BaseException) -> None:
        """Set an error as the request's result, unless the caller has cancelled it."""
        if not self.future.done():
            self.future.set_exception(error)

    def answer(self, known: Known, fresh: Mapping[bytes, Outcome]) -> list[Classified] | None:
        """Return the predictions in order; None if the request is cancelled or the model failed on a text."""
        answer: list[Classified] = []
        for id, key in zip(self.ids, self.keys):  # noqa: B905 - `strict` costs a request half a microsecond
            found = known.get(key)
            if found is not None:
                answer.append(Classified(found, True, id))
                continue
            outcome = fresh[key]
            if isinstance(outcome, Exception):  # of this text only: batch-mates are answered
                self.fail(outcome)
                return None
            answer.append(Classified(outcome, False, id))
        return None if self.future.done() else answer

    def rows(self, answer: Sequence[Classified], texts: Sequence[str]) -> list[CallRecord]:
        """Return the rows of the call log; `texts` is what the privacy settings leave of each text."""
        caller, model = self.logged_as, self.model.classifier
        digest, name, version = model.identity, model.name, model.version
        rows = []
        for text, one in zip(texts, answer):  # noqa: B905 - as above
            _, label, score, decision = one.prediction
            # by position: keywords would take twice as long
            row = CallRecord(
                one.id, caller, text, label, score, digest, one.from_cache, decision, name, version
            )
            rows.append(row)
        return rows


class MicroBatch(msgspec.Struct, eq=False):
    """Requests for one model that are looked up, classified and logged together."""

    model: ServedModel
    skip_cache: bool
    calls: list[PendingRequest]
    texts: int

    def add(self, call: PendingRequest) -> bool:
        """Add a request if it is alike and there is room; return whether it was."""
        texts = self.texts + len(call.texts)
        # `is not` for all three: identity of the model, and booleans
        if self.model is not call.model or self.skip_cache is not call.skip_cache or texts > _MAX_BATCH_TEXTS:
            return False
        self.calls.append(call)
        self.texts = texts
        return True


def fail_all(calls: Iterable[PendingRequest], error: BaseException) -> None:
    """Set an error as the result of several requests."""
    for call in calls:
        call.fail(error)
