"""What answers at each path. Knows queries and bodies; how texts get their answers is `classify`'s."""

from __future__ import annotations

from datetime import datetime

from msgspec import to_builtins
from starlette.types import ASGIApp, Receive, Scope

from tamis.inference.classifier import Classifier
from tamis.service.answers import Headers, json_answer
from tamis.service.callers import CALLER
from tamis.service.classify import Classification, Classified
from tamis.service.page.files import PAGE
from tamis.service.rate_limit import RateLimiter
from tamis.service.requests import RequestReader
from tamis.service.routing import Handler
from tamis.service.schemas import Health, ModelInfo, PredictionBody, ServiceInfo, SingleQuery, Top
from tamis.service.server import DRAINING
from tamis.storage import ResilientStore

_NO_HEADERS: Headers = []


class PredictionRoutes:
    """The routes that classify."""

    def __init__(
        self,
        classification: Classification,
        reader: RequestReader,
        *,
        limiter: RateLimiter | None,
        model_version: str,
    ):
        self._classification = classification
        self._reader = reader
        self._limiter = limiter
        self._model_version = model_version

    async def post_one(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `POST /prediction`."""
        return await self._one(scope, await self._reader.single(scope, receive))

    async def get_one(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /prediction`."""
        return await self._one(scope, self._reader.from_query_string(scope))

    async def post_many(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `POST /predictions`."""
        query = await self._reader.many(scope, receive)
        headers = self._count(scope, len(query.texts))
        classified = await self._classification.classify(
            query.texts, caller=scope[CALLER].name, skip_cache=query.skip_cache
        )
        inputs = query.texts if query.echo_input else [None] * len(query.texts)
        return json_answer(
            [self._body(*pair) for pair in zip(inputs, classified, strict=True)], headers=headers
        )

    async def _one(self, scope: Scope, query: SingleQuery) -> ASGIApp:
        headers = self._count(scope, 1)
        [classified] = await self._classification.classify(
            [query.text], caller=scope[CALLER].name, skip_cache=query.skip_cache
        )
        return json_answer(self._body(query.text if query.echo_input else None, classified), headers=headers)

    def _count(self, scope: Scope, texts: int) -> Headers:
        """Count what the caller sends, where there is a limit, and return what is to be told about it."""
        return _NO_HEADERS if self._limiter is None else self._limiter.take(scope[CALLER], texts)

    def _body(self, text: str | None, classified: Classified) -> PredictionBody:
        return prediction_body(text, classified, model_version=self._model_version)


class InfoRoutes:
    """The routes that describe the service and its model."""

    def __init__(self, classifier: Classifier, store: ResilientStore, *, api_name: str, started_at: datetime):
        self._classifier = classifier
        self._store = store
        self._api_name = api_name
        self._started_at = started_at

    async def service(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /`."""
        info = ServiceInfo(
            api_name=self._api_name,
            caller_id=scope[CALLER].name,
            model_name=self._classifier.name,
            model_version=self._classifier.version,
            started_at=self._started_at,
            docs="/docs",
            page=PAGE,
        )
        return json_answer(info)

    async def model(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /model`."""
        return json_answer(model_info(self._classifier))

    async def live(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /health/live`."""
        return json_answer(Health("live", "the event loop answers"))

    async def ready(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /health/ready`: without its store the service goes on, so that is 200 too."""
        if scope.get("state", {}).get(DRAINING):
            return json_answer(Health("stopping", "the service has been told to stop"), status=503)
        loaded = f"model {self._classifier.name}@{self._classifier.version} is loaded"
        if self._store.is_degraded:
            why = "the store fails" if self._store.fault else "the store works again"
            waiting = self._store.counters.spooled
            return json_answer(Health("degraded", f"{loaded}; {why}, {waiting} calls wait for it"))
        return json_answer(Health("ready", loaded))


def prediction_body(text: str | None, classified: Classified, *, model_version: str) -> PredictionBody:
    """Return what is sent for one text; `text` is None where the caller did not ask for its echo."""
    prediction = classified.prediction
    return PredictionBody(
        input=text,
        prediction=prediction.scores,
        top=Top(prediction.label, prediction.score),
        from_cache=classified.from_cache,
        decision=prediction.decision,
        model_version=model_version,
    )


def model_info(classifier: Classifier) -> ModelInfo:
    """Return what is told about the model: its manifest without what concerns its files only."""
    manifest = classifier.manifest
    return ModelInfo(
        name=classifier.name,
        version=classifier.version,
        digest=classifier.identity,
        kind=manifest.kind if manifest else "mock",
        labels=list(classifier.labels),
        operating_point=to_builtins(manifest.operating_point) if manifest else None,
        metrics=manifest.metrics if manifest else {},
        training=manifest.training if manifest else {},
        network=classifier.network,
    )


def prediction_handlers(routes: PredictionRoutes) -> dict[str, dict[str, Handler]]:
    """Return the handlers of the routes that classify, by path and method."""
    return {
        "/prediction": {"GET": routes.get_one, "POST": routes.post_one},
        "/predictions": {"POST": routes.post_many},
    }


def info_handlers(routes: InfoRoutes) -> dict[str, dict[str, Handler]]:
    """Return the handlers of the routes that describe, by path and method."""
    return {
        "/": {"GET": routes.service},
        "/model": {"GET": routes.model},
        "/health/live": {"GET": routes.live},
        "/health/ready": {"GET": routes.ready},
    }
