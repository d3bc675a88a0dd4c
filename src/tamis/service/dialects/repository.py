"""The routes of the Open Inference Protocol that describe the server and its models, and load them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from tamis import __version__
from tamis.errors import UnknownModelError
from tamis.inference.classifier import Classifier
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import Entry, ServedModel
from tamis.service.api.models import require_admin
from tamis.service.dialects.base import DialectService
from tamis.service.dialects.bodies import TolerantBody
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.responses import json_response
from tamis.service.security.client_identity import ADMIN, OPEN
from tamis.service.telemetry.metrics import InferenceTotals

TEXT, LABEL, SCORE, DECISION = "text", "label", "score", "decision"

# the names by which Triton's clients recognise optional parts of the protocol
_EXTENSIONS = ["binary_tensor_data", "classification", "model_repository", "statistics"]
_MODEL_PATHS = ("/v2/models/{model:model}", "/v2/models/{model:model}/versions/{version}")


class IndexBody(TolerantBody):
    """Which models to list."""

    ready: bool = False


class LoadBody(TolerantBody):
    """What Triton's clients send with a model to load or to unload; not used."""

    parameters: dict[str, Any] | None = None


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class LiveState(BaseModel):
    """Whether the server is live."""

    live: bool


class ReadyState(BaseModel):
    """Whether the server, or a model by its name, is ready."""

    ready: bool
    name: str | None = None


class IndexEntry(BaseModel):
    """A model of the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ModelStatistics(BaseModel):
    """Counts since the service started; texts that the cache answered are not among the inferences."""

    model_stats: list[dict[str, Any]]


def add_repository_routes(routes: DialectRoutes) -> None:
    """Add what V2 has beside inference."""
    _add_health(routes)
    for path in _MODEL_PATHS:
        _add_model(routes, path)
    _add_repository(routes)


def _add_health(routes: DialectRoutes) -> None:
    @routes.get("/v2", ServerMetadata, summary="Server", access=OPEN)
    async def server() -> Response:
        return json_response({"name": "tamis", "version": __version__, "extensions": _EXTENSIONS})

    @routes.get("/v2/health/live", LiveState, summary="Liveness", access=OPEN)
    async def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready", ReadyState, summary="Readiness", access=OPEN)
    async def ready(request: Request) -> Response:
        # ready even without the store, like /health/ready: predictions are still answered
        is_ready = not routes.service.is_draining(request.scope)
        return json_response({"ready": is_ready}, status=200 if is_ready else 503)


def _add_model(routes: DialectRoutes, path: str) -> None:
    service = routes.service

    @routes.get(path, ModelMetadata, summary="Model")
    async def metadata(request: Request) -> Response:
        model = (await _asked(service, request)).classifier
        return json_response(
            {
                "name": model.name,
                "versions": [model.version],
                "platform": f"tamis_{model.manifest.kind if model.manifest else 'mock'}",
                "inputs": [{"name": TEXT, "datatype": "BYTES", "shape": [-1]}],
                "outputs": [
                    {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
                    {"name": SCORE, "datatype": "FP64", "shape": [-1, len(model.labels)]},
                    {"name": DECISION, "datatype": "BYTES", "shape": [-1]},
                ],
            }
        )

    @routes.get(f"{path}/ready", ReadyState, summary="Readiness of a model")
    async def model_ready(request: Request) -> Response:
        return json_response({"name": (await _asked(service, request)).name, "ready": True})

    @routes.get(f"{path}/stats", ModelStatistics, summary="Statistics of a model")
    async def statistics(request: Request) -> Response:
        model = (await _asked(service, request)).classifier
        return json_response({"model_stats": [_statistics(model, service.metrics.inference_totals())]})


def _add_repository(routes: DialectRoutes) -> None:
    service = routes.service

    @routes.post("/v2/repository/index", list[IndexEntry], summary="Models of the repository")
    async def index(body: IndexBody, request: Request) -> Response:
        pool = service.pool
        versions = [
            (entry, version)
            for entry in [*pool.entries.values()]
            for version in await pool.known_versions(entry)
        ]
        found = [_index_entry(entry, version) for entry, version in versions]
        return json_response([one for one in found if one["state"] == "READY" or not body.ready])

    @routes.post(
        "/v2/repository/models/{model:model}/load", dict[str, Any], summary="Load a model", access=ADMIN
    )
    async def load(body: LoadBody, request: Request) -> Response:
        require_admin(request)
        name, version = await _chosen(service.pool, request.path_params["model"])
        await service.pool.load(name, version)
        await service.broadcast("load", name, version)
        return json_response({})

    @routes.post(
        "/v2/repository/models/{model:model}/unload", dict[str, Any], summary="Unload a model", access=ADMIN
    )
    async def unload(body: LoadBody, request: Request) -> Response:
        require_admin(request)
        name, version = await _chosen(service.pool, request.path_params["model"])
        await service.pool.unload(name, version)
        await service.broadcast("unload", name, version)
        return json_response({})


def _index_entry(entry: Entry, version: str) -> dict[str, str]:
    is_ready = version in entry.loaded
    reason = "cannot be loaded; GET /models has the reason" if version in entry.errors else "not loaded"
    return {
        "name": entry.name,
        "version": version,
        "state": "READY" if is_ready else "UNAVAILABLE",
        "reason": "" if is_ready else reason,
    }


async def _chosen(pool: ModelPool, reference: str) -> tuple[str, str]:
    """Return the name and the version of `name@version`, without a version the newest one."""
    name, _, version = reference.partition("@")
    entry = pool.entries.get(name)
    versions = await pool.known_versions(entry) if entry is not None else {}
    if not versions or (version and version not in versions):
        raise UnknownModelError("no such model or version; GET /models lists them", field="model")
    return name, version or max(versions, key=lambda one: (len(one), one))


async def _asked(service: DialectService, request: Request) -> ServedModel:
    parameters = request.path_params
    return await service.resolve(parameters["model"], parameters.get("version"))


def _statistics(model: Classifier, totals: InferenceTotals) -> dict[str, Any]:
    def duration(count: float, seconds: float) -> dict[str, int]:
        return {"count": int(count), "ns": round(seconds * 1e9)}

    return {
        "name": model.name,
        "version": model.version,
        # of all models together: the shared counters have no label for the model
        "inference_count": int(totals.texts),
        "execution_count": int(totals.batches),
        "inference_stats": {
            "success": duration(totals.batches, totals.queue_seconds + totals.score_seconds),
            "queue": duration(totals.batches, totals.queue_seconds),
            "compute_infer": duration(totals.batches, totals.score_seconds),
            "cache_hit": duration(totals.hits, 0.0),
            "cache_miss": duration(totals.misses, 0.0),
        },
        "batch_stats": [],
    }
