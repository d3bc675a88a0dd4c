"""`tamis serve`: serve models over HTTP until a signal to stop.

one worker     listen ─► check model ─► prepare store ─► assemble application ─► serve_alone
more workers   listen ─► prepare store ─► supervise ─► `tamis serve --worker-channel FD` for each worker:
               receive WorkerConfig ─► assemble application ─► serve_as_worker on the shared listeners
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.served import (
    assemble,
    mock_model,
    models_to_serve,
    pinned_versions,
    prepare_store,
    served_references,
)
from tamis.cli.terminal import echo_field
from tamis.errors import SettingsError, TamisError
from tamis.settings import Settings

if TYPE_CHECKING:
    from tamis.inference.model_pool import ModelPool
    from tamis.service.http.sockets import Listeners, Notifier
    from tamis.storage import ResilientStore

# what the call log keeps of a text, by TAMIS_LOG_TEXTS
_KEPT_TEXTS = {"keep": "texts", "hash": "keyed digests of texts", "none": "no texts"}


def _default(name: str) -> object:
    return Settings.model_fields[name].default


@click.command(epilog="Example: tamis serve models/spam@champion --port 8080")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Address to listen on; :: is IPv6 and IPv4, unix:/path a Unix socket.  "
    f"[env: TAMIS_HOST; default: {_default('host')}]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    help=f"Port to listen on; 0 chooses a free one.  [env: TAMIS_PORT; default: {_default('port')}]",
)
@click.option(
    "--store",
    metavar="URL",
    help="Store of the call log and the prediction cache, such as sqlite:///tamis.db or memory:.  "
    "[env: TAMIS_STORE; default: a file tamis.db in the model's folder]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help=f"Number of worker processes.  [env: TAMIS_WORKERS; default: {_default('workers')}]",
)
@click.option(
    "--mock", is_flag=True, help="Serve made-up predictions without a model.  [env: TAMIS_MOCK_MODEL_CLASS]"
)
@click.option(
    "--migrate", is_flag=True, help="Create or upgrade a cluster's tables first, like `tamis migrate`."
)
@click.option("--worker-channel", type=int, hidden=True)  # for the supervisor, to start its workers
def command(
    models: tuple[str, ...], mock: bool, migrate: bool, worker_channel: int | None, **given: Any
) -> None:
    """Serve models over HTTP: each MODEL is NAME, NAME@VERSION, NAME@ALIAS or a folder of models.

    The first model is the default; the others have their own routes under /models. NAME@ALIAS follows the
    alias: `tamis models promote` switches the running service.

    Without MODEL, TAMIS_MODEL_DIRECTORY and TAMIS_MODEL_VERSION name it. All settings can be given as
    environment variables or in a file .env; .env.sample describes them.
    """
    from tamis.service.http.run import handle_other_signals
    from tamis.service.http.sockets import Notifier, allow_connections, listen
    from tamis.service.telemetry.logging import configure_logs

    # before anything slow: a signal during the start must not end in a traceback
    handle_other_signals()
    if worker_channel is not None:
        _run_worker(worker_channel)
        return
    # None, not False: an option that is not given must not override the environment
    settings = _settings(models[0] if models else None, mock_model_class=mock or None, **given)
    configure_logs(settings.log_format, settings.log_level)
    with _errors_as_events(settings.log_format):
        _warn_of_deprecated(settings)
        allow_connections(settings.max_connections)
        # before models are loaded, so that a port in use is reported at once
        listeners = listen(settings.host, settings.port, os.environ)
        try:
            settings = _with_allowed_hosts(settings, listeners)
            serve = _serve_alone if settings.workers == 1 else _supervise
            serve(
                settings,
                served_references(settings, models),
                listeners,
                Notifier(os.environ),
                migrate=migrate,
            )
        finally:
            # the file of a Unix socket outlives its process
            listeners.remove_files()


@contextmanager
def _errors_as_events(log_format: str) -> Iterator[None]:
    """Log an error that stops the service as an event if logs are JSON; otherwise `main` prints it."""
    try:
        yield
    except TamisError as error:
        if log_format != "json":
            raise
        logging.getLogger(__name__).error("refused", extra={"fields": {"reason": str(error)}})
        raise SystemExit(1) from None


def _serve_alone(
    settings: Settings, models: Sequence[str], listeners: Listeners, notifier: Notifier, *, migrate: bool
) -> None:
    from tamis.service.http.run import serve_alone

    # the model first: a missing one must not leave a new store behind
    loaded = models_to_serve(settings, models)
    retention = prepare_store(settings, migrate=migrate)
    app, store = assemble(settings, loaded)
    serve_alone(
        app,
        settings,
        listeners=listeners,
        notifier=notifier,
        on_start=lambda: _show_start(settings, _describe_models(app.pool), listeners.address, retention),
        apply=app.pool.apply,
    )
    _exit_if_rows_are_lost(store)


def _supervise(
    settings: Settings, models: Sequence[str], listeners: Listeners, notifier: Notifier, *, migrate: bool
) -> None:
    """Run the supervisor and its workers; this process loads no model and keeps no store open."""
    from tamis.clock import SystemClock
    from tamis.service.http.sockets import ALIVE, READY, STOPPING
    from tamis.service.http.supervisor import Supervisor, WorkerError
    from tamis.service.http.worker import WorkerConfig
    from tamis.service.telemetry.metric_definitions import LAYOUT
    from tamis.service.telemetry.shared_values import make_shared_memory

    listener_fds = [listener.fileno() for listener in listeners.sockets]
    # before the store: a missing model must not leave a new one behind
    pinned = pinned_versions(models)
    config = WorkerConfig(settings, listener_fds, make_shared_memory(LAYOUT.size), pinned)
    retention = prepare_store(settings, migrate=migrate)

    def started(served: str) -> None:
        _show_start(settings, served, listeners.address, retention)
        notifier.send(READY)

    command = [sys.executable, "-m", "tamis", "serve", "--worker-channel"]
    supervisor = Supervisor(command, config, listeners=listeners, clock=SystemClock())
    try:
        code = supervisor.run(
            on_start=started,
            on_tick=lambda: notifier.send(ALIVE),
            on_stop=lambda: notifier.send(STOPPING),
        )
    except WorkerError as failed:
        # the worker has already printed the cause
        if failed.is_reported:
            raise SystemExit(1) from None
        raise
    raise SystemExit(code)


def _run_worker(channel_fd: int) -> None:
    """Serve as one of several workers; the configuration comes through the channel."""
    from tamis.service.http.run import serve_as_worker
    from tamis.service.http.worker import WorkerChannel
    from tamis.service.telemetry.logging import configure_logs

    channel = WorkerChannel(channel_fd)
    config = channel.receive()
    # the supervisor has ended before it sent one
    if config is None:
        return
    configure_logs(config.settings.log_format, config.settings.log_level)
    with _errors_as_events(config.settings.log_format):
        app, store = assemble(
            config.settings,
            mock_model(config.settings) or config.models,
            metrics_fd=config.metrics_fd,
            broadcast=channel.broadcast,
        )
        serve_as_worker(
            app, config, channel=channel, served_models=_describe_models(app.pool), apply=app.pool.apply
        )
        _exit_if_rows_are_lost(store)


def _exit_if_rows_are_lost(store: ResilientStore) -> None:
    """Exit with a distinct code if the shutdown lost rows; the store has logged how many."""
    from tamis.service.http import LOST_ROWS_EXIT_CODE

    if store.lost_rows:
        raise SystemExit(LOST_ROWS_EXIT_CODE)


def _settings(model: str | None, **given: Any) -> Settings:
    """Return the settings of the environment and of .env, overridden by the options that were given."""
    if model is not None:
        # the version in the environment belongs to the folder in the environment, which is overridden
        given |= {"model_directory": model, "model_version": ""}
    settings = Settings.from_environment(os.environ, Path(".env"))
    if given.get("host") == "":
        raise SettingsError("--host must not be empty; leave it out for the default")
    return settings.with_values(**{name: value for name, value in given.items() if value is not None})


def _with_allowed_hosts(settings: Settings, listeners: Listeners) -> Settings:
    """Allow local names only in the Host header of a service on a loopback address (DNS rebinding).

    A setting is left as it is. A service on the network, behind a proxy or on a socket of systemd has
    names that are unknown here.
    """
    address = listeners.loopback_address
    if settings.allowed_hosts.strip(" ,") or not address:
        return settings
    # an IPv6 address has brackets in the header: `address` has them, `settings.host` does not
    bound = [address] if ":" in settings.host else [address, settings.host]
    allowed = dict.fromkeys(["localhost", "127.0.0.1", "[::1]", *bound])
    return settings.model_copy(update={"allowed_hosts": ",".join(allowed)})


def _warn_of_deprecated(settings: Settings) -> None:
    """Log each deprecated setting and each file of an older version; call it before files are created."""
    from tamis.settings_source import EnvironmentSource

    for line in EnvironmentSource(Settings, os.environ, Path(".env")).deprecations():
        logging.getLogger(__name__).warning(line)
    for path, setting in settings.unused_old_files():
        logging.getLogger(__name__).warning(
            "%s is no longer used: %s is used instead; to keep the old file set %s",
            path,
            settings.model_folder / path.name,
            setting,
        )


def _describe_models(pool: ModelPool) -> str:
    """Return the default model with its labels and the number of other models."""
    classifier, others = pool.default.classifier, len(pool.entries) - 1
    labels = classifier.labels
    shown = ", ".join(labels) if len(labels) <= 8 else f"{len(labels)} labels"
    more = f" and {others} more" if others else ""
    return f"{classifier.name}@{classifier.version} ({shown}){more}"


def _show_start(settings: Settings, models: str, address: str, retention: str) -> None:
    """Print what is served and where, or log it as an event."""
    if settings.log_format == "json":
        fields = {
            "model": models,
            "address": address,
            "workers": settings.workers,
            "retention": retention,
            "log_texts": settings.log_texts,
        }
        logging.getLogger(__name__).info("listening", extra={"fields": fields})
        return
    workers = "1" if settings.workers == 1 else f"{settings.workers} + supervisor"
    base = address if address.startswith("http") else ""  # a Unix socket has no URL
    for name, value in [
        ("Model", models),
        ("Store", settings.shown_store_url),
        ("Log", f"{_KEPT_TEXTS[settings.log_texts]}, {retention}"),
        ("Address", address),
        ("Page", f"{base}/ui"),
        ("Docs", f"{base}/docs"),
        ("Workers", workers),
        ("Stop", "Ctrl+C"),
    ]:
        echo_field(name, value, width=9)
