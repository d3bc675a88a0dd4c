"""What can be set from outside: one pydantic-settings field each, with its type, bounds, default and meaning.

The environment variable of a field is `TAMIS_` and the field's name in capitals.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tamis.settings_source import (
    PREFIX,
    Consistency,
    Count,
    Ratio,
    RequiredText,
    Seconds,
    Switch,
    check_base_url,
    check_dialects,
    check_host_names,
    check_origins,
    check_proxies,
    check_root_path,
)

_CONSTANT = "nothing: the default suits every known service"


def _setting(
    default: Any, meaning: str, *, workshop: bool | str = False, secret: bool = False, instead: str = ""
) -> Any:
    """Describe one setting.

    With `workshop` its variable works without the prefix, and by that name, too. `instead` names
    the replacement of a setting of an older version, which keeps working and is not documented.
    """
    extra: dict[str, Any] = {"workshop": workshop, "secret": secret, "instead": instead}
    return Field(default, description=meaning, repr=not secret, json_schema_extra=extra)


class SettingsFields(BaseSettings):
    """Every setting of a service, those of older versions last."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )

    api_name: str = _setting(
        "Tamis", "name of the service, shown by GET / and in the API documentation", workshop=True
    )
    model_directory: RequiredText = _setting(
        "models/spam", "folder of the model, also NAME@VERSION or NAME@ALIAS", workshop=True
    )
    model_version: str = _setting(
        "", "version to serve, such as 2, v2 or champion; empty is the newest", workshop=True
    )
    mock_model_class: Switch = _setting(
        False, "serve made-up predictions without a model, for trying things out", workshop=True
    )
    lazy_models: Switch = _setting(False, "load every model but the first at its first request")
    models_max_bytes: Annotated[Count, Ge(0), Le(1 << 50)] = _setting(
        0, "bound on the size of loaded models, bytes; beyond it the least recently used is unloaded"
    )
    host: RequiredText = _setting(
        "127.0.0.1", "address to listen on; 0.0.0.0 is all interfaces, :: with IPv6; unix:/path is a socket"
    )
    port: Annotated[Count, Ge(0), Le(65_535)] = _setting(8000, "port to listen on; 0 chooses a free one")
    allowed_hosts: Annotated[str, AfterValidator(check_host_names)] = _setting(
        "", "accepted host names; * is any; empty is those of this machine on a loopback address, else any"
    )
    store: str = _setting(
        "",
        "store URL, such as sqlite:///tamis.db or memory:; empty is a file tamis.db in the model's folder",
        secret=True,
    )
    state_directory: str = _setting(
        "", "folder for store file, API keys, rate limits and spool; empty is the model's folder"
    )
    start_without_store: Switch = _setting(
        False, "start even if the cluster cannot be reached; calls are spooled"
    )
    astra_db_keyspace: str = _setting("", "keyspace of the Astra database of store astra:", workshop=True)
    astra_db_secure_bundle_path: str = _setting(
        "", "secure connect bundle of that database", workshop="ASTRA_DB_BUNDLE_PATH"
    )
    astra_db_application_token: str = _setting(
        "", "application token of that database", workshop=True, secret=True
    )
    astra_db_client_id: str = _setting("", "client id, if there is no token", workshop=True)
    astra_db_client_secret: str = _setting("", "secret of that client id", workshop=True, secret=True)
    log_retention_days: Annotated[Count, Ge(0), Le(36_500)] = _setting(
        90,
        "days after which a logged call is deleted; 0 keeps the log forever; if it is not set, a store of "
        "version 0.2 or older is kept forever",
    )
    log_texts: Literal["keep", "hash", "none"] = _setting(
        "keep", "what the log and feedback keep of a text: keep (all of it), hash (a keyed digest) or none"
    )
    shorten_addresses: Switch = _setting(
        False, "log networks (/24, IPv6 /48) in place of callers' addresses; reading the log then needs keys"
    )
    cache_seconds: Annotated[Count, Ge(1), Le(10 * 365 * 86_400)] = _setting(
        30 * 86_400, "time to live of a cached prediction, seconds"
    )
    share_cache: Switch = _setting(
        False, "share cached predictions between callers; from_cache then reveals what others sent"
    )
    max_queue_seconds: Annotated[Seconds, Ge(0), Le(3_600)] = _setting(
        0.5, "maximum wait of a text for the model, seconds; beyond it requests get a 503"
    )
    max_body_bytes: Annotated[Count, Ge(1), Le(1 << 30)] = _setting(
        1_048_576, "maximum size of a request body, bytes"
    )
    max_text_chars: Annotated[Count, Ge(1), Le(1 << 30)] = _setting(
        10_000, "maximum length of a text, characters"
    )
    max_texts: Annotated[Count, Ge(1), Le(1_000_000)] = _setting(
        1_000, "maximum number of texts in one request"
    )
    trusted_proxies: Annotated[str, AfterValidator(check_proxies)] = _setting(
        "", "addresses and networks of proxies whose X-Forwarded-For is trusted; unix for a Unix socket"
    )
    drift_texts: Annotated[Count, Ge(0), Le(1_000_000)] = _setting(
        1_000, "texts of the window that is compared with the training profile; 0 compares nothing"
    )
    drift_psi: Annotated[Ratio, Ge(0), Le(100)] = _setting(
        0.1, "population stability index above which a significant change is reported as drift"
    )
    drift_share: Annotated[Ratio, Ge(0), Le(1)] = _setting(
        0.05, "change of a label's share above which a significant change is reported as drift"
    )
    require_keys: Switch = _setting(False, "require an API key; create one with tamis keys create")
    rate_per_minute: Annotated[Count, Ge(0), Le(1_000_000_000)] = _setting(
        0, "texts per minute that one caller may send; 0 is no limit"
    )
    rate_burst: Annotated[Count, Ge(1), Le(1_000_000)] = _setting(
        1_000, "texts that one caller may send at once, after a pause"
    )
    fast_path: Switch = _setting(
        True, "handle hot routes and those of dialects before FastAPI, with the same responses"
    )
    dialects: Annotated[str, AfterValidator(check_dialects)] = _setting(
        "all", "wire formats of other servers: all, none, or a list of v2,v1,tei,hf,mlflow,openai"
    )
    cors_origins: Annotated[str, AfterValidator(check_origins)] = _setting(
        "",
        "origins of pages that may call the service, such as https://app.example.org; * is any",
    )
    root_path: Annotated[str, AfterValidator(check_root_path)] = _setting(
        "", "path under which a proxy publishes the service, such as /spam"
    )
    workers: Annotated[Count, Ge(1), Le(256)] = _setting(
        1, "number of worker processes; with two or more, a supervisor replaces those that fail"
    )
    drain_seconds: Annotated[Seconds, Ge(0), Le(3_600)] = _setting(
        1.0, "seconds between the signal to stop and closing the listening socket"
    )
    stop_seconds: Annotated[Seconds, Ge(0.1), Le(3_600)] = _setting(
        10.0, "timeout for requests in progress at shutdown, seconds"
    )
    max_connections: Annotated[Count, Ge(1), Le(1 << 20)] = _setting(
        1_000, "maximum number of connections of one worker; beyond it they get a 503"
    )
    keep_alive_seconds: Annotated[Seconds, Ge(0.1), Le(3_600)] = _setting(
        75.0, "timeout of an idle connection, seconds"
    )
    log_format: Literal["text", "json"] = _setting("text", "format of log lines: text or json")
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "lowest level that is logged: debug, info, warning or error"
    )
    access_log: Switch = _setting(False, "write a log line for every request")
    slow_seconds: Annotated[Seconds, Ge(0), Le(3_600)] = _setting(
        1.0, "log requests slower than this many seconds, at most one per second"
    )
    traces_endpoint: Annotated[str, AfterValidator(check_base_url)] = _setting(
        "", "OpenTelemetry collector for traces, such as http://127.0.0.1:4318; empty is none"
    )

    # Settings of older versions. They keep working.

    store_deadline_seconds: Annotated[Seconds, Ge(0.05), Le(60)] = _setting(
        2.0,
        "timeout for writing to the call log of a cluster, seconds",
        instead="?timeout=SECONDS in TAMIS_STORE",
    )
    cache_deadline_seconds: Annotated[Seconds, Ge(0.05), Le(60)] = _setting(
        0.5,
        "timeout for reading the prediction cache of a cluster, seconds",
        instead="?cache_timeout=SECONDS in TAMIS_STORE",
    )
    store_log_consistency: Consistency = _setting(
        "LOCAL_QUORUM",
        "consistency level of the call log of a cluster",
        instead="?log_consistency=LEVEL in TAMIS_STORE",
    )
    store_cache_consistency: Consistency = _setting(
        "LOCAL_ONE",
        "consistency level for reading the prediction cache of a cluster",
        instead="?cache_consistency=LEVEL in TAMIS_STORE",
    )
    spool_file: str = _setting(
        "",
        "file of the spool; empty is a file spool.tamis in the model's folder",
        instead="TAMIS_STATE_DIRECTORY",
    )
    store_full_durability: Switch = _setting(
        False,
        "sync to disk at every commit: committed calls survive a power failure",
        instead="?full_durability=true in TAMIS_STORE",
    )
    cache_rows: Annotated[Count, Ge(1), Le(1 << 40)] = _setting(
        1_000_000,
        "maximum number of cached predictions in the store",
        instead="?cache_rows=NUMBER in TAMIS_STORE",
    )
    cache_memory_rows: Annotated[Count, Ge(0), Le(1 << 30)] = _setting(
        10_000,
        "maximum number of cached predictions in a process's memory; 0 turns it off",
        instead=_CONSTANT,
    )
    keys_file: str = _setting(
        "",
        "file of the API keys; empty is a file keys.json in the model's folder",
        instead="TAMIS_STATE_DIRECTORY",
    )
    rate_file: str = _setting(
        "",
        "file of the rate limits; empty is a file rates.tamis in the model's folder",
        instead="TAMIS_STATE_DIRECTORY",
    )
    worker_timeout_seconds: Annotated[Seconds, Ge(0.2), Le(3_600)] = _setting(
        1.0, "seconds without a heartbeat after which a worker is replaced", instead=_CONSTANT
    )
    max_header_bytes: Annotated[Count, Ge(256), Le(1 << 20)] = _setting(
        16_384, "maximum size of request line and headers, bytes", instead=_CONSTANT
    )
    header_seconds: Annotated[Seconds, Ge(0.1), Le(3_600)] = _setting(
        10.0, "timeout for receiving the headers, seconds", instead=_CONSTANT
    )
    body_seconds: Annotated[Seconds, Ge(0.1), Le(3_600)] = _setting(
        30.0, "timeout for receiving the body, seconds", instead=_CONSTANT
    )
    slow_read_seconds: Annotated[Seconds, Ge(0.1), Le(3_600)] = _setting(
        10.0, "seconds of slow reading after which a connection is closed", instead=_CONSTANT
    )
    min_read_bytes_per_second: Annotated[Count, Ge(0), Le(1 << 30)] = _setting(
        1_000,
        "bytes per second below which a client with unread responses reads too slowly",
        instead=_CONSTANT,
    )


STORE_OPTIONS = {
    "timeout": "store_deadline_seconds",
    "cache_timeout": "cache_deadline_seconds",
    "log_consistency": "store_log_consistency",
    "cache_consistency": "store_cache_consistency",
    "full_durability": "store_full_durability",
    "cache_rows": "cache_rows",
}
"""Options in the query of a store URL, and the field that each of them sets."""
