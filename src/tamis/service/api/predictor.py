"""`Predictor`: texts in, the response with their predictions out.

The FastAPI routes, the fast path, streamed bodies and the dialects all classify through it.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from time import perf_counter
from typing import Any

from msgspec import Struct, to_builtins

from tamis.errors import InputError, OverloadedError, StoreError
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ServedModel
from tamis.inference.shadow import Traffic
from tamis.service.classify import ClassifyService
from tamis.service.micro_batch import Classified
from tamis.service.responses import BytesResponse, Headers, json_response
from tamis.service.security.client_identity import Caller
from tamis.service.security.rate_limit import RateLimiter
from tamis.storage.ids import uuid_texts

_NO_HEADERS: Headers = []
EXAMPLE_TEXTS = ["WIN a FREE phone now, text CLAIM to 80080", "Are we still on for lunch tomorrow?"]
# a fixed id, so that the OpenAPI document is the same in every process
_EXAMPLE_ID = bytes.fromhex("01f1e5fc484372908001030304050607")


# gc=False: these hold no references that could form a cycle, so the collector need not track them
class _Top(Struct, frozen=True, gc=False):
    label: str
    value: float


class EncodedPrediction(Struct, frozen=True, gc=False):
    """`PredictionResponse` for encoding: pydantic would take ten times as long."""

    input: str | None
    prediction: Any
    top: _Top
    from_cache: bool
    decision: str
    id: str
    model_name: str
    model_version: str


class Predictor:
    """Turns checked texts into the response with their predictions."""

    def __init__(
        self,
        pool: ModelPool,
        classification: ClassifyService,
        *,
        limiter: RateLimiter | None,
        traffic: Traffic,
    ):
        self.pool, self._traffic = pool, traffic
        self._classification = classification
        self._limiter = limiter

    @property
    def max_texts_at_once(self) -> int | None:
        """The maximum number of texts that the rate limit accepts in one request; None without a limit."""
        return None if self._limiter is None else self._limiter.burst

    @cached_property
    def examples(self) -> list[Any]:
        """The default model's responses to `EXAMPLE_TEXTS`."""
        model = self.pool.default
        predictions = model.classifier.predict_many(EXAMPLE_TEXTS)
        classified = [Classified(prediction, False, _EXAMPLE_ID) for prediction in predictions]
        return [to_builtins(body) for body in self.bodies(EXAMPLE_TEXTS, classified, model)]

    async def one(
        self,
        text: str,
        caller: Caller,
        *,
        echo_input: bool,
        skip_cache: bool,
        model: ServedModel | None = None,
    ) -> BytesResponse:
        """Return the response to one text; without `model` the default one answers."""
        model = model or self.answering(self.pool.default, caller)
        texts = [text]
        classified, headers = await self.classify(model, texts, caller, skip_cache=skip_cache)
        [body] = self.bodies(texts if echo_input else None, classified, model)
        return json_response(body, headers=headers)

    async def many(
        self,
        texts: Sequence[str],
        caller: Caller,
        *,
        echo_input: bool,
        skip_cache: bool,
        model: ServedModel | None = None,
    ) -> BytesResponse:
        """Return the response to a list of texts, in the same order."""
        model = model or self.answering(self.pool.default, caller)
        classified, headers = await self.classify(model, texts, caller, skip_cache=skip_cache)
        return json_response(self.bodies(texts if echo_input else None, classified, model), headers=headers)

    def answering(self, model: ServedModel, caller: Caller) -> ServedModel:
        """Return the version that answers a caller who requested none: `model` or its canary."""
        return self._traffic.choose(model, caller.name) if self._traffic.models else model

    async def classify(
        self, model: ServedModel, texts: Sequence[str], caller: Caller, *, skip_cache: bool = False
    ) -> tuple[list[Classified], Headers]:
        """Return the predictions, and the headers that describe the rate limit if there is one."""
        if not self._traffic.models:  # no canary or shadow: nothing to time or to compare
            if self._limiter is None:
                return await self._submit(model, texts, caller, skip_cache), _NO_HEADERS
            return await self._classify(model, texts, caller, skip_cache)
        began = perf_counter()
        try:
            classified, headers = await self._classify(model, texts, caller, skip_cache)
        except (InputError, OverloadedError, StoreError):  # the version is not at fault: no canary error
            raise
        except Exception:
            self._traffic.failed(model, perf_counter() - began)
            raise
        predictions = [one.prediction for one in classified]
        self._traffic.answered(model, texts, predictions, perf_counter() - began)
        return classified, headers

    async def _classify(
        self, model: ServedModel, texts: Sequence[str], caller: Caller, skip_cache: bool
    ) -> tuple[list[Classified], Headers]:
        if self._limiter is None:
            return await self._submit(model, texts, caller, skip_cache), _NO_HEADERS
        # before the queue, so that a caller over the limit costs no scoring
        charge = self._limiter.consume(caller, texts=len(texts))
        try:
            return await self._submit(model, texts, caller, skip_cache), charge.headers
        except Exception:  # overload or a failure; a client that leaves (CancelledError) pays
            self._limiter.refund(charge)
            raise

    def _submit(
        self, model: ServedModel, texts: Sequence[str], caller: Caller, skip_cache: bool
    ) -> Future[list[Classified]]:
        return self._classification.classify(
            model, texts, caller=caller.name, logged_as=caller.network, skip_cache=skip_cache
        )

    def bodies(
        self, texts: Sequence[str] | None, classified: Sequence[Classified], model: ServedModel
    ) -> list[EncodedPrediction]:
        """Return the bodies for the texts of one request; without `texts`, they are not echoed."""
        name, version, bodies = model.classifier.name, model.classifier.version, []
        ids = uuid_texts([one.id for one in classified])
        inputs = repeat(None, len(ids)) if texts is None else texts
        for text, one, id in zip(inputs, classified, ids):  # noqa: B905 - `strict` is slow
            scores, label, score, decision = one.prediction
            top = _Top(label, score)
            bodies.append(EncodedPrediction(text, scores, top, one.from_cache, decision, id, name, version))
        return bodies
