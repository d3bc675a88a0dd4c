"""What `tamis serve` serves: references and versions of models, a prepared store, the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tamis.clock import SystemClock
from tamis.errors import ArtifactError
from tamis.settings import Settings

if TYPE_CHECKING:
    from tamis.inference.classifier import Classifier
    from tamis.service.api.application import Application
    from tamis.service.api.models import Broadcast
    from tamis.service.app import Models
    from tamis.storage import ResilientStore


def served_references(settings: Settings, models: Sequence[str]) -> list[str]:
    """Return the references of the models to serve, the default one first; none with the mock model."""
    from tamis.artifact import find_models

    if settings.mock_model_class:
        return []
    return find_models(models or [settings.model_reference])


def pinned_versions(models: Sequence[str]) -> dict[str, str]:
    """Return the version of each model, so that workers that start later load the same ones.

    A version is empty if it cannot be found; raises ArtifactError if it is that of the default model.
    """
    from tamis.artifact import find_version

    pinned = {}
    for index, model in enumerate(models):
        try:
            pinned[model] = find_version(model).name
        except ArtifactError:
            if index == 0:
                raise
            pinned[model] = ""  # the workers report the error, and serve the other models
    return pinned


def models_to_serve(settings: Settings, models: Sequence[str]) -> Models:
    """Return the mock model or the references; raise ArtifactError if the default model is missing."""
    from tamis.artifact import find_version

    mock = mock_model(settings)
    if mock is not None:
        return mock
    find_version(models[0])
    return dict.fromkeys(models, "")


def mock_model(settings: Settings) -> Classifier | None:
    """Return the mock model and log a warning if the settings select it; otherwise return None."""
    from tamis.inference.classifier import Classifier

    if not settings.mock_model_class:
        return None
    logging.getLogger(__name__).warning("MOCK MODEL: predictions are made up; for trying things out only")
    return Classifier.mock()


def assemble(
    settings: Settings,
    models: Models,
    metrics_fd: int | None = None,
    broadcast: Broadcast | None = None,
) -> tuple[Application, ResilientStore]:
    """Return the application and its store; predictions continue while the store fails."""
    from tamis.service.api.models import no_broadcast
    from tamis.service.app import create_app
    from tamis.service.wiring import resilient_store

    clock = SystemClock()
    store = resilient_store(settings, clock)
    app = create_app(
        settings, models, store=store, clock=clock, metrics_fd=metrics_fd, broadcast=broadcast or no_broadcast
    )
    return app, store


def prepare_store(settings: Settings, *, migrate: bool) -> str:
    """Create or upgrade the store's tables and return its retention in words; raise StoreError.

    Called once, before any worker starts. The tables of a cluster are changed only with `migrate`;
    otherwise their version is checked.
    """
    from tamis.service.retention import described_retention
    from tamis.service.wiring import plain_store

    store = plain_store(settings, SystemClock())

    async def prepare() -> str:
        if migrate:
            await store.migrate()
        await store.open()
        try:
            return described_retention(settings, store)
        finally:
            await store.close()

    # not opened, because the cluster may be down; workers connect as soon as it is up
    if settings.start_without_store and settings.is_store_a_cluster:
        if migrate:
            asyncio.run(store.migrate())
        return described_retention(settings, store)
    return asyncio.run(prepare())
