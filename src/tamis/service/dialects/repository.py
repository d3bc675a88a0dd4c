"""The routes of the Open Inference Protocol for health, metadata, statistics and the model repository."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
from tamis.service.http import is_draining
from tamis.service.responses import json_response
from tamis.service.security.client_identity import ADMIN, OPEN
from tamis.service.telemetry.metrics import InferenceTotals

TEXT, LABEL, SCORE, DECISION = "text", "label", "score", "decision"

# optional parts of the protocol, by the names that Triton's clients look for
_EXTENSIONS = ["binary_tensor_data", "classification", "model_repository", "statistics"]
_MODEL_PATHS = ("/v2/models/{model:model}", "/v2/models/{model:model}/versions/{version}")


class IndexBody(TolerantBody):
    """Which models to list."""

    ready: bool = False


class LoadBody(TolerantBody):
    """The parameters that Triton's clients send; not used."""

    parameters: dict[str, Any] | None = None


class ServerMetadata(BaseModel):
    """Name, version and extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """Name, type and shape of a tensor; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """Name, versions and tensors of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class LiveState(BaseModel):
    """Whether the server is live."""

    live: bool


class ReadyState(BaseModel):
    """Whether the server is ready, or the model of this name."""

    ready: bool
    name: str | None = None


class IndexEntry(BaseModel):
    """A version of a model in the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ModelStatistics(BaseModel):
    """Counts since the service started; texts answered from the cache do not count as inferences."""

    model_stats: list[dict[str, Any]]


def add_repository_routes(routes: DialectRoutes) -> None:
    """Add the routes of V2 other than inference."""
    _add_server_routes(routes)
    for path in _MODEL_PATHS:
        _add_model_routes(routes, path)
    _add_index_route(routes)
    pool = routes.service.pool
    _add_change_route(routes, "load", pool.load)
    _add_change_route(routes, "unload", pool.unload)


def _add_server_routes(routes: DialectRoutes) -> None:
    @routes.get("/v2", ServerMetadata, summary="Server", access=OPEN)
    async def server() -> Response:
        return json_response({"name": "tamis", "version": __version__, "extensions": _EXTENSIONS})

    @routes.get("/v2/health/live", LiveState, summary="Liveness", access=OPEN)
    async def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready", ReadyState, summary="Readiness", access=OPEN)
    async def ready(request: Request) -> Response:
        # as in /health/ready, also while the store fails: predictions are still answered
        is_ready = not is_draining(request.scope)
        return json_response({"ready": is_ready}, status=200 if is_ready else 503)


def _add_model_routes(routes: DialectRoutes, path: str) -> None:
    service = routes.service

    @routes.get(path, ModelMetadata, summary="Model")
    async def metadata(request: Request) -> Response:
        model = (await _resolve(service, request)).classifier
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
        return json_response({"name": (await _resolve(service, request)).name, "ready": True})

    @routes.get(f"{path}/stats", ModelStatistics, summary="Statistics of a model")
    async def statistics(request: Request) -> Response:
        model = (await _resolve(service, request)).classifier
        return json_response({"model_stats": [_statistics(model, service.metrics.inference_totals())]})


def _add_index_route(routes: DialectRoutes) -> None:
    @routes.post("/v2/repository/index", list[IndexEntry], summary="Models of the repository")
    async def index(body: IndexBody, request: Request) -> Response:
        pool = routes.service.pool
        entries = [
            _index_entry(entry, version)
            # a copy, because the pool may change while a folder is read
            for entry in [*pool.entries.values()]
            for version in await pool.known_versions(entry)
        ]
        return json_response([one for one in entries if one["state"] == "READY" or not body.ready])


def _add_change_route(
    routes: DialectRoutes, action: str, change: Callable[[str, str], Awaitable[object]]
) -> None:
    """Add the route of an action on a model: `load` or `unload`."""
    service = routes.service
    path = f"/v2/repository/models/{{model:model}}/{action}"

    @routes.post(path, dict[str, Any], summary=f"{action.capitalize()} a model", access=ADMIN)
    async def change_model(body: LoadBody, request: Request) -> Response:
        require_admin(request)
        name, version = await _name_and_version(service.pool, request.path_params["model"])
        await change(name, version)
        await service.broadcast(action, name, version)
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


async def _name_and_version(pool: ModelPool, reference: str) -> tuple[str, str]:
    """Return the name and the version of `name@version`, by default the newest; raise UnknownModelError."""
    name, _, version = reference.partition("@")
    entry = pool.entries.get(name)
    versions = await pool.known_versions(entry) if entry is not None else {}
    if not versions or (version and version not in versions):
        raise UnknownModelError("no such model or version; GET /models lists them", field="model")
    # numbers as text: a longer one is larger
    return name, version or max(versions, key=lambda number: (len(number), number))


async def _resolve(service: DialectService, request: Request) -> ServedModel:
    """Return the model that the path names, with or without a version."""
    parameters = request.path_params
    return await service.resolve(parameters["model"], parameters.get("version"))


def _statistics(model: Classifier, totals: InferenceTotals) -> dict[str, Any]:
    """Return the statistics of a model in Triton's form."""

    def duration(count: float, seconds: float) -> dict[str, int]:
        return {"count": int(count), "ns": round(seconds * 1e9)}

    return {
        "name": model.name,
        "version": model.version,
        # of all models, because the shared counters have no label for the model
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
