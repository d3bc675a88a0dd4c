"""What `tamis serve` serves: the models by reference, the prepared store, the assembled application."""

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
    """Return the references of the models to serve; none with the mock model."""
    from tamis.artifact import find_models

    if settings.mock_model_class:
        return []
    return find_models(models or [settings.model_reference])


def pinned_versions(models: Sequence[str]) -> dict[str, str]:
    """Return each model's version, so that a worker that starts later loads the same one."""
    from tamis.artifact import find_version

    # the default model must exist: an error here stops the start
    first, *others = models or [""]
    if not first:
        return {}
    pinned = {first: find_version(first).name}
    for model in others:  # one that cannot be loaded is reported by the workers
        try:
            pinned[model] = find_version(model).name
        except ArtifactError:
            pinned[model] = ""
    return pinned


def checked_models(settings: Settings, models: Sequence[str]) -> Models:
    """Return what to serve; a default model that does not exist fails here, before tables are made."""
    from tamis.artifact import find_version

    mock = mock_model(settings)
    if mock is not None:
        return mock
    find_version(models[0])
    return dict.fromkeys(models, "")


def mock_model(settings: Settings) -> Classifier | None:
    """Return the mock model if the settings select it, with a warning in the log."""
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
    """Assemble the application and its store; a store that fails from now on stops no prediction."""
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
    """Make the tables once, before any worker starts, or fail with one clear line; return the retention.

    Those of a cluster are made with `migrate` only; otherwise their version is checked.
    """
    from tamis.service.retention import described_retention
    from tamis.service.wiring import plain_store

    async def prepare() -> str:
        if migrate:
            await store.migrate()
        await store.open()
        try:
            return described_retention(settings, store)
        finally:
            await store.close()

    store = plain_store(settings, SystemClock())
    # the cluster may be down: workers connect when it answers
    if settings.start_without_store and settings.is_store_a_cluster:
        if migrate:
            asyncio.run(store.migrate())
        return described_retention(settings, store)
    return asyncio.run(prepare())
