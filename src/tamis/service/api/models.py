"""The routes of the models: their state, versions and aliases, documents, and predictions of each."""

# No `from __future__ import annotations`: FastAPI could not find the local annotations by their names.
import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from tamis.artifact import CARD_FILE, REPORT_FILE, Artifact, open_artifact, set_alias
from tamis.errors import ArtifactError, InputError, ModelUnavailableError, UnknownModelError
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import Entry, ServedModel
from tamis.inference.shadow import Traffic
from tamis.inference.traffic_counts import SIDES
from tamis.service.api.info import described
from tamis.service.api.predictions import PredictionRoutes, Prefix
from tamis.service.api.predictor import Predictor
from tamis.service.api.route import RequestLimits, Requires, errors
from tamis.service.bodies import PredictionResponse
from tamis.service.feedback import CAVEAT, FeedbackService
from tamis.service.responses import BytesResponse, json_response
from tamis.service.security.client_identity import ADMIN, ANY_KEY, CALLER

# a report is shown in a frame of the web page: sandboxed, and without access to the page or the network
_REPORT_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; sandbox "
    b"allow-scripts; frame-ancestors 'self'"
)
ModelName = Annotated[
    str, Path(description="The model's name, or NAME@ALIAS.", examples=["spam", "spam@champion"])
]
Version = Annotated[str, Path(description="A version, such as 3.", examples=["3"])]
_CHANGE = (ADMIN, 400, 403, 404, 413, 415, 422, 503)
Broadcast = Callable[[str, str, str], Awaitable[None]]
"""Called with `load` or `unload`, a name and a version: makes the other workers do the same."""


async def no_broadcast(action: str, name: str, version: str) -> None:
    """Do nothing: there is one process."""


class AliasRequest(BaseModel):
    """The version that an alias is moved to."""

    model_config = ConfigDict(extra="forbid", strict=True)
    version: Annotated[str, Field(description="The version, such as 3.", examples=["3"])]
    reason: Annotated[str, Field(max_length=1_000, description="Kept in the history.")] = ""


def _add_state(router: APIRouter, pool: ModelPool, feedback: FeedbackService, traffic: Traffic) -> None:
    """Add the routes that describe the models and versions."""
    options = _options(ANY_KEY, 404, 503)

    @router.get("/models", summary="All models", **_options(ANY_KEY))
    async def list_models() -> Response:
        return json_response([await state_of(pool, entry) for entry in [*pool.entries.values()]])

    @router.get("/models/{model}", summary="One model", **options)
    async def show_model(model: ModelName) -> Response:
        entry = _entry(pool, model.partition("@")[0])
        served = await _resolved(pool, model)
        counted = [one.as_dict() for one in await feedback.count() if one.model_name == entry.name]
        return json_response(
            await state_of(pool, entry)
            | {"served": described(served.classifier)}
            # never without the caveat: the accuracy on feedback is easily taken for that on all texts
            | {"feedback": {"versions": counted, "caveat": CAVEAT}}
            | {"traffic": traffic_of(traffic, entry, counted)}
        )

    @router.get("/models/{model}/versions/{version}", summary="One version", **options)
    async def show_version(model: ModelName, version: Version) -> Response:
        artifact = await _artifact(pool, model, version)
        state = (await state_of(pool, _entry(pool, model)))["versions"]
        manifest = artifact.manifest
        return json_response(
            next(one for one in state if one["version"] == artifact.version)
            | {
                "name": artifact.name,
                "kind": manifest.kind,
                "labels": manifest.labels,
                "digest": artifact.identity,
                "metrics": manifest.metrics,
                "training": manifest.training,
            }
        )


def _add_document(router: APIRouter, pool: ModelPool, name: str, file: str, *, media_type: bytes) -> None:
    """Add a document of a model and of each version."""
    headers = [
        (b"content-type", media_type),
        (b"content-security-policy", _REPORT_POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache"),  # the served version, and so its report, can change at any time
    ]
    options = {**_options(ANY_KEY, 404, 503), "response_class": Response}

    @router.get(f"/models/{{model}}/{name}", name=f"{name}_of_model", summary=f"The {name}", **options)
    async def document_of_model(model: ModelName) -> Response:
        served = await _resolved(pool, model)
        return await document(served.name, served.version)

    @router.get(
        f"/models/{{model}}/versions/{{version}}/{name}",
        name=f"{name}_of_version",
        summary=f"The {name} of a version",
        **options,
    )
    async def document(model: ModelName, version: Version) -> Response:
        artifact = await _artifact(pool, model, version)
        if file not in artifact.manifest.files:  # trained without a report, or imported
            raise UnknownModelError(f"this version has no {name}", field="version")
        return BytesResponse(200, headers, await asyncio.to_thread(artifact.document, file))


def _add_changes(router: APIRouter, pool: ModelPool, broadcast: Broadcast) -> None:
    """Add the routes that move aliases, load and unload."""

    @router.put("/models/{model}/aliases/{alias}", summary="Move an alias", **_options(*_CHANGE))
    async def put_alias(model: ModelName, alias: str, change: AliasRequest, request: Request) -> Response:
        require_admin(request)
        entry = _entry(pool, model)
        folder = await _folder_with(pool, entry, change.version)
        # loaded before the move: a version that fails must not become the target of an alias
        served = await pool.resolve(model, change.version)
        reference, actor = f"{folder}@{served.version}", request.scope[CALLER].name
        try:
            await asyncio.to_thread(set_alias, reference, alias, actor=actor, reason=change.reason)
        except ArtifactError as invalid:
            raise InputError("bad_alias", str(invalid), field="alias") from None
        await pool.refresh()  # this worker answers by it at once; the others notice the changed file
        return json_response(await state_of(pool, entry))

    for action, change in (("load", pool.load), ("unload", pool.unload)):
        _add_change(router, pool, broadcast, action, change)


def _add_change(
    router: APIRouter,
    pool: ModelPool,
    broadcast: Broadcast,
    action: str,
    change: Callable[[str, str], Awaitable[object]],
) -> None:
    path = f"/models/{{model}}/versions/{{version}}/{action}"

    @router.post(
        path, name=f"{action}_version", summary=f"{action.capitalize()} a version", **_options(*_CHANGE)
    )
    async def change_version(model: ModelName, version: Version, request: Request) -> Response:
        require_admin(request)
        await change(model, version)
        await broadcast(action, model, version)  # only what succeeded here
        return json_response(await state_of(pool, _entry(pool, model)))


def model_prefixes(predictor: Predictor) -> Sequence[Prefix]:
    """Return the prefixes of routes of a named model and of a version."""
    pool = predictor.pool

    async def named(model: ModelName, request: Request) -> ServedModel:
        served = await _resolved(pool, model)
        # a caller who names an alias gets that version; a canary takes part of the calls without one
        return served if "@" in model else predictor.answering(served, request.scope[CALLER])

    async def versioned(model: ModelName, version: Version) -> ServedModel:
        return await pool.resolve(model, version)

    return (
        Prefix("/models/{model}", "_by_model", named, (404,)),
        Prefix("/models/{model}/versions/{version}", "_by_version", versioned, (404,)),
    )


async def _resolved(pool: ModelPool, model: str) -> ServedModel:
    name, _, alias = model.partition("@")
    return await pool.resolve(name, alias=alias or None)


def add_model_routes(
    router: APIRouter,
    predictor: Predictor,
    limits: RequestLimits,
    *,
    broadcast: Broadcast,
    feedback: FeedbackService,
    traffic: Traffic,
) -> None:
    """Add every route under `/models`."""
    pool = predictor.pool
    _add_state(router, pool, feedback, traffic)
    _add_document(router, pool, "report", REPORT_FILE, media_type=b"text/html; charset=utf-8")
    _add_document(router, pool, "card", CARD_FILE, media_type=b"text/markdown; charset=utf-8")
    _add_changes(router, pool, broadcast)
    predictions = PredictionRoutes(router, predictor, limits, PredictionResponse)
    for prefix in model_prefixes(predictor):
        predictions.add(prefix)


async def state_of(pool: ModelPool, entry: Entry) -> dict[str, Any]:
    """Return a model's state: the served version, the aliases, and every version with its state."""
    versions, current = await pool.known_versions(entry), entry.current
    return {
        "name": entry.name,
        "is_default": entry is next(iter(pool.entries.values())),
        "serves": entry.selector or "newest at start",
        "version": current.version if current else None,
        "digest": current.digest if current else None,
        "labels": list(current.classifier.labels) if current else None,
        "error": entry.errors.get("current"),
        "aliases": {alias: str(version) for alias, version in entry.aliases.items()},
        "versions": [
            {
                "version": version,
                "aliases": aliases,
                "state": _state(entry, version),
                "reason": entry.errors.get(version),
            }
            for version, aliases in versions.items()
        ],
    }


def traffic_of(traffic: Traffic, entry: Entry, feedback: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return both sides of the model's canary and the comparisons of its shadow, null if there is none."""
    found: dict[str, Any] = {"canary": None, "shadow": None}
    by_version = {one["model_version"]: one for one in feedback}
    for served, role, trial in traffic.reports():
        if served.name != entry.name:
            continue
        compared = {"version": trial.model.version, "comparisons": trial.counts.comparisons()}
        versions = {"served": served.version, "canary": trial.model.version}
        sides = {
            side: {"version": versions[side], "feedback": by_version.get(versions[side])}
            | trial.counts.side(side).as_dict()
            for side in SIDES
        }
        plan = traffic.models[entry.name].plan.canary  # None if it has just been stopped
        if role == "shadow" or plan is None:
            found[role] = compared
        else:
            bounds = {"errors": plan.max_errors, "disagreement": plan.max_disagreement}
            found[role] = compared | {"share": plan.share, "abort_if": bounds, "sides": sides}
    return found


def _state(entry: Entry, version: str) -> str:
    if entry.current is not None and entry.current.version == version:
        return "served"
    if version in entry.loaded:
        return "loaded"
    return "failed" if version in entry.errors else "on disk"


def _entry(pool: ModelPool, name: str) -> Entry:
    entry = pool.entries.get(name)
    if entry is None:
        raise UnknownModelError("no model has this name; GET /models lists them", field="model")
    return entry


async def _folder_with(pool: ModelPool, entry: Entry, version: str) -> str:
    """Return the folder of a model; raise UnknownModelError unless it contains the version."""
    if entry.folder is None or version not in await pool.known_versions(entry):
        raise UnknownModelError("the model has no such version; see GET /models", field="version")
    return str(entry.folder)


async def _artifact(pool: ModelPool, name: str, version: str) -> Artifact:
    folder = await _folder_with(pool, _entry(pool, name), version)
    try:  # in a thread: it reads files and checks digests
        return await asyncio.to_thread(open_artifact, FilePath(folder) / version)
    except ArtifactError:  # its message contains a path of the server
        raise ModelUnavailableError(name) from None


def require_admin(request: Request) -> None:
    """Raise InputError for a caller without an admin key, also if no keys are required."""
    if not request.scope[CALLER].is_admin:
        message = "this needs an API key with the scope admin; start the service with TAMIS_REQUIRE_KEYS=true"
        raise InputError("not_admin", message, field="authorization")


def _options(access: Any, *statuses: int) -> dict[str, Any]:
    return {
        "tags": ["models"],
        "dependencies": [Depends(Requires(access))],
        "responses": errors(*statuses),
    }
