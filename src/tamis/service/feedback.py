"""The feedback use case: true labels for own predictions, or for texts. Independent of HTTP.

prediction id ─► the caller's call in the log ─┐
text ──────────► the model's prediction now   ─┴─► one row per caller and subject ─► feedback log
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import final

from tamis.clock import Clock
from tamis.errors import InputError, StoreError
from tamis.inference.model_pool import ModelPool
from tamis.proportions import wilson
from tamis.service.log_text import LogText, full_text
from tamis.service.security.client_identity import Caller
from tamis.storage import FeedbackRecord, LabelPairCount, LogQuery, Store, TimeIds
from tamis.storage.ids import id_of_text, text_digest

CAVEAT = (
    "feedback is no random sample: callers choose what they report, so the accuracy on all texts may be "
    "outside of this interval"
)
_ACCURACY_SECONDS = 10.0
"""Maximum age of the counts: on a cluster, counting reads every row."""

_log = logging.getLogger(__name__)


class PredictionNotFoundError(InputError):
    """The prediction does not exist or is another caller's; the error does not reveal which."""

    def __init__(self) -> None:
        message = "prediction not found among your own (`prediction_id`); use the `id` of a response"
        super().__init__("prediction_not_found", message, field="prediction_id")


@dataclass(frozen=True, slots=True)
class FeedbackAccuracy:
    """The accuracy of one version of a model on feedback, with its 95 % interval (Wilson)."""

    model_name: str | None
    model_version: str | None
    correct: int
    total: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """The share of feedback whose true label is the predicted one."""
        return self.correct / self.total

    def as_dict(self) -> dict[str, object]:
        """Return the fields and the accuracy."""
        return {**asdict(self), "accuracy": self.accuracy}


def accuracies(counts: Sequence[LabelPairCount]) -> list[FeedbackAccuracy]:
    """Return the accuracy of each model version; feedback without a predicted label is left out."""
    totals: Counter[tuple[str | None, str | None]] = Counter()
    correct: Counter[tuple[str | None, str | None]] = Counter()
    for one in counts:
        if one.predicted is not None:
            model = one.model_name, one.model_version
            totals[model] += one.count
            correct[model] += one.count if one.predicted == one.label else 0
    return [
        FeedbackAccuracy(*model, correct[model], total, *wilson(correct[model], total))
        for model, total in totals.items()
    ]


@final
class FeedbackService:
    """Stores the true labels that callers report."""

    def __init__(self, pool: ModelPool, store: Store, clock: Clock, *, log_text: LogText = full_text):
        self._pool, self._store, self._clock, self._log_text = pool, store, clock, log_text
        self._ids = TimeIds(clock)
        self.accuracies: list[FeedbackAccuracy] = []
        """The result of the last `count`, by model version."""
        self._count_at = float("-inf")
        self._counting = asyncio.Lock()  # scrapes that come together wait for one count

    async def count(self) -> list[FeedbackAccuracy]:
        """Return the accuracy of each version on all feedback, a few seconds old at most; never fails."""
        async with self._counting:
            if self._clock.monotonic() >= self._count_at:
                # set before counting: a store that fails is not asked again by every scrape
                self._count_at = self._clock.monotonic() + _ACCURACY_SECONDS
                try:
                    self.accuracies = accuracies(await self._store.feedback.pair_counts(LogQuery()))
                except StoreError as failed:  # the previous counts stay
                    _log.warning("feedback not counted", extra={"fields": {"reason": str(failed)}})
        return self.accuracies

    async def about_prediction(
        self, prediction_id: str, caller: Caller, *, label: str, comment: str
    ) -> FeedbackRecord:
        """Store the true label of a logged prediction, for an admin also of another caller's."""
        id = id_of_text(prediction_id)
        # the store filters by owner, so an id of another caller is as unknown as one that never was
        owner = None if caller.is_admin else caller.logged_as
        call = None if id is None else await self._store.log.find(id, caller=owner)
        if call is None:
            raise PredictionNotFoundError
        revision = self._ids.next()
        return await self._store.feedback.put(
            FeedbackRecord(
                id=revision,
                caller=caller.logged_as,
                subject=call.id,
                text=self._log_text(call.text, self._store.cache.secret),
                label=label,
                predicted=call.label,
                model=call.model,
                model_name=call.model_name,
                model_version=call.model_version,
                comment=comment,
                revision=revision,
            )
        )

    async def about_text(
        self, text: str, caller: Caller, *, label: str, comment: str, model_name: str = ""
    ) -> FeedbackRecord:
        """Store the true label of a text, with what NAME, NAME@ALIAS or the default model predicts now."""
        name, _, alias = model_name.partition("@")
        model = (await self._pool.resolve(name or None, alias=alias or None)).classifier
        # neither logged nor cached: feedback is no call; in a thread, because a network takes milliseconds
        prediction = await asyncio.to_thread(model.predict, text)
        revision = self._ids.next()
        return await self._store.feedback.put(
            FeedbackRecord(
                id=revision,
                caller=caller.logged_as,
                # by digest, whatever the log keeps of texts: a second report replaces the first
                subject=text_digest(self._store.cache.secret, text),
                text=self._log_text(text, self._store.cache.secret),
                label=label,
                predicted=prediction.label,
                model=model.identity,
                model_name=model.name,
                model_version=model.version,
                comment=comment,
                revision=revision,
            )
        )

    def is_new_label(self, row: FeedbackRecord) -> bool:
        """Return whether the model that predicted has no such label; the default one if it is not loaded."""
        loaded = (model for model in self._pool.loaded_models if model.digest == row.model)
        return row.label not in next(loaded, self._pool.default).classifier.labels
