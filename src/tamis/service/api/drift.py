"""`GET /models/{name}/drift`: recent predictions of a version against its training profile."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.inference.drift_report import FEATURES, MIN_TEXTS
from tamis.inference.drift_sketch import WINDOWS
from tamis.inference.model_pool import ModelPool
from tamis.service.api.route import Requires, errors
from tamis.service.drift import DriftMonitor
from tamis.service.responses import json_response
from tamis.service.security.client_identity import ANY_KEY
from tamis.settings import Settings

_TEXT = (
    "Compares predictions of the served version, or of NAME@ALIAS, with the held-out texts of its training: "
    "label shares, confidence, text length and unknown features, each as population stability index (PSI) "
    "with its 95 % interval and the p-value of a chi-squared test. A window with fewer than "
    f"{MIN_TEXTS} texts is not judged. The counts are those of all workers, and are kept over a restart."
)


class DriftResponse(BaseModel):
    """The drift of one version."""

    model: str
    version: str
    state: Annotated[
        str,
        Field(
            description="`off` if TAMIS_DRIFT_TEXTS is 0; `no profile` for imported and old models.",
            json_schema_extra={"enum": ["steady", "drifting", "too few texts", "no profile", "off"]},
        ),
    ]
    limits: Annotated[dict[str, float], Field(description="TAMIS_DRIFT_PSI and TAMIS_DRIFT_SHARE.")]
    reference_texts: Annotated[int | None, Field(description="Held-out texts of the training profile.")]
    labels: list[str]
    windows: Annotated[
        list[dict[str, Any]],
        Field(
            description=f"{', '.join(WINDOWS)}: the last TAMIS_DRIFT_TEXTS texts, and ten times as many; "
            f"with `features` ({', '.join(FEATURES)}), `labels` with the change of each share, `by_label`."
        ),
    ]


def add_drift_route(router: APIRouter, pool: ModelPool, drift: DriftMonitor, settings: Settings) -> None:
    """Add `/models/{model}/drift` to the application's router."""
    limits = {"psi": settings.drift_psi, "share": settings.drift_share}

    @router.get(
        "/models/{model}/drift",
        summary="Drift of a model",
        description=_TEXT,
        response_model=DriftResponse,
        tags=["models"],
        dependencies=[Depends(Requires(ANY_KEY))],
        responses=errors(404, 503),
    )
    async def show_drift(
        model: Annotated[str, Path(description="The model's name, or NAME@ALIAS.", examples=["spam"])],
    ) -> Response:
        name, _, alias = model.partition("@")
        served = await pool.resolve(name, alias=alias or None)
        found = await drift.report(served.classifier)
        # a version without a profile is no error: imported and older models never had one
        state = ("off" if not settings.drift_texts else "no profile") if found is None else _state(found)
        nothing = {"reference_texts": None, "labels": list(served.classifier.labels), "windows": []}
        return json_response(
            {"model": served.name, "version": served.version, "state": state, "limits": limits}
            | (found or nothing)
        )


def _state(found: dict[str, Any]) -> str:
    if any(window["drifting"] for window in found["windows"]):
        return "drifting"
    # the recent window fills first, so if it has too few texts the long one has, too
    return "steady" if found["windows"][0]["is_judged"] else "too few texts"
