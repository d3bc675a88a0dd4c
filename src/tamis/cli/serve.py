"""`tamis serve`: a model over HTTP until it is told to stop."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from tamis.settings import Settings

if TYPE_CHECKING:
    import socket

    import uvicorn

    from tamis.inference.classifier import Classifier

_DRAIN_SECONDS = 10
"""How long requests that are being answered may take after the signal to stop."""


@click.command(epilog="Example: tamis serve models/spam@champion --port 8080")
@click.argument("model", required=False)
@click.option("--host", help=f"Address to listen on.  [env: TAMIS_HOST; default: {Settings.host}]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port to listen on; 0 takes a free one.  [env: TAMIS_PORT; default: {Settings.port}]",
)
@click.option(
    "--store",
    help="Where calls are logged and answers remembered, such as sqlite:///tamis.db or memory:.  "
    "[env: TAMIS_STORE; default: a file tamis.db beside the model]",
)
@click.option(
    "--mock", is_flag=True, help="Serve made-up answers without a model.  [env: TAMIS_MOCK_MODEL_CLASS]"
)
def command(model: str | None, host: str | None, port: int | None, store: str | None, mock: bool) -> None:
    """Answer over HTTP with MODEL: NAME, NAME@VERSION or NAME@ALIAS.

    Without MODEL the environment decides: TAMIS_MODEL_DIRECTORY and TAMIS_MODEL_VERSION.
    What can be set, by an environment variable or in a file .env: see .env.sample.
    """
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(model, host=host, port=port, store=store, mock_model_class=mock or None)
    classifier = _classifier(settings)
    _prepare_store(settings)
    server = _server(settings, classifier)
    listener = _listen(settings.host, settings.port)
    _stop_on_signals(server)
    _show_start(settings, classifier, listener)
    server.run(sockets=[listener])


def _settings(model: str | None, **given: Any) -> Settings:
    """Read the settings; the options that were given override them."""
    import os
    from pathlib import Path

    if model is not None:
        given |= {"model_directory": model, "model_version": ""}
    settings = Settings.from_environment(os.environ, Path(".env"))
    return dataclasses.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )


def _classifier(settings: Settings) -> Classifier:
    import logging

    from tamis.inference.classifier import Classifier

    if not settings.mock_model_class:
        return Classifier.load(settings.model_reference)
    logging.getLogger(__name__).warning("MOCK MODEL: every answer is made up; for trying things out only")
    return Classifier.mock()


def _prepare_store(settings: Settings) -> None:
    """Make the store's tables, or fail with one clear line; later faults stop no prediction."""
    import asyncio

    from tamis.clock import SystemClock
    from tamis.service.assembly import plain_store

    asyncio.run(plain_store(settings, SystemClock()).migrate())


def _listen(host: str, port: int) -> socket.socket:
    """Take the address before anything is announced, so that one that is taken is one clear line."""
    import socket

    from tamis.errors import SettingsError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else "not the name of a host"
        raise SettingsError(
            f"cannot listen on {host} port {port}: {why}; choose another with --host and --port "
            "(TAMIS_HOST, TAMIS_PORT)"
        ) from None


def _show_start(settings: Settings, classifier: Classifier, listener: socket.socket) -> None:
    from rich.console import Console
    from rich.text import Text

    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    labels = classifier.labels
    shown = ", ".join(labels) if len(labels) <= 8 else f"{len(labels)} labels"
    console = Console(stderr=True, highlight=False)
    for name, value in [
        ("Model", f"{classifier.name}@{classifier.version} ({shown})"),
        ("Store", settings.store_url),
        ("Address", address),
        ("Docs", f"{address}/docs"),
        ("Stop", "Ctrl+C"),
    ]:
        console.print(Text.assemble((f"{name:<9}", "bold"), value), soft_wrap=True)


def _server(settings: Settings, classifier: Classifier) -> uvicorn.Server:
    import uvicorn

    from tamis.clock import SystemClock
    from tamis.service.app import create_app
    from tamis.service.assembly import resilient_store

    clock = SystemClock()
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings, classifier, store=resilient_store(settings, clock), clock=clock),
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )


def _stop_on_signals(server: uvicorn.Server) -> None:
    """End with exit code 0: uvicorn, once stopped, raises the signal again for its earlier handler."""
    import signal

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
