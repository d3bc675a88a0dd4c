"""`uvicorn tamis.service.asgi:app`: the application of the settings, for any ASGI server.

Importing this module reads the environment and `.env`, loads the model and creates the tables of an embedded
store. `tamis serve` does the same and adds what an ASGI server lacks: limits on connections, workers that
share their metrics, a supervisor.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tamis.artifact import find_models
from tamis.clock import SystemClock
from tamis.inference.classifier import Classifier
from tamis.service.api.application import Application
from tamis.service.app import create_app
from tamis.service.telemetry.logging import configure_logs
from tamis.service.wiring import plain_store, resilient_store
from tamis.settings import Settings


def _build(settings: Settings) -> Application:
    clock = SystemClock()
    configure_logs(settings.log_format, settings.log_level)
    if not settings.is_store_a_cluster:  # the tables of a cluster are migrated by its operator
        with ThreadPoolExecutor(1) as thread:  # an ASGI server imports this inside its running event loop
            thread.submit(lambda: asyncio.run(plain_store(settings, clock).migrate())).result()
    models = (
        Classifier.mock()
        if settings.mock_model_class
        else dict.fromkeys(find_models([settings.model_reference]), "")
    )
    return create_app(settings, models, store=resilient_store(settings, clock), clock=clock)


app = _build(Settings.from_environment(os.environ, Path(".env")))
