"""Every setting: one frozen object, read once from the environment and a `.env` file.

Each field carries its one line of meaning; its variable is its name in capitals after `TAMIS_`.
Knows no part of Tamis that uses a setting.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from dotenv.parser import parse_stream

from tamis.errors import SettingsError
from tamis.setting_values import (
    base_url,
    host_names,
    one_of,
    proxies,
    required_text,
    seconds,
    switch,
    text,
    whole_number,
)

PREFIX = "TAMIS_"


def _setting(
    default: Any,
    meaning: str,
    parse: Callable[[str], Any] = text,
    *,
    workshop: bool | str = False,
    secret: bool = False,
) -> Any:
    """Describe one setting; with `workshop` its variable works without the prefix, and by that name, too."""
    metadata = {"meaning": meaning, "parse": parse, "workshop": workshop, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


_consistency = one_of("LOCAL_QUORUM", "LOCAL_ONE", "QUORUM", "ONE", "TWO", "THREE", "EACH_QUORUM", "ALL")


@dataclass(frozen=True)
class Settings:
    """What can be set from outside."""

    api_name: str = _setting(
        "Tamis", "name of the service, shown by GET / and in the documentation", workshop=True
    )
    model_directory: str = _setting(
        "models/spam", "folder of the model, also NAME@VERSION or NAME@ALIAS", required_text, workshop=True
    )
    model_version: str = _setting(
        "", "version to serve, such as 2, v2 or champion; empty is the newest", workshop=True
    )
    mock_model_class: bool = _setting(
        False, "serve made-up answers without any model, for trying things out", switch, workshop=True
    )
    host: str = _setting(
        "127.0.0.1", "address to listen on; 0.0.0.0 is every network of this machine", required_text
    )
    port: int = _setting(8000, "port to listen on; 0 takes a free one", whole_number(0, 65_535))
    allowed_hosts: str = _setting(
        "",
        "host names to answer for; * is any; empty is this machine's own on a loopback address, else any",
        host_names,
    )
    store: str = _setting(
        "",
        "store URL, such as sqlite:///tamis.db or memory:; empty is a file tamis.db in the model's folder",
        secret=True,  # it may hold a password
    )
    store_deadline_seconds: float = _setting(
        2.0, "longest that a cluster may take to log a call", seconds(0.05, 60)
    )
    cache_deadline_seconds: float = _setting(
        0.5, "longest that a cluster may take to look an answer up", seconds(0.05, 60)
    )
    store_log_consistency: str = _setting(
        "LOCAL_QUORUM", "replicas of a cluster that confirm a write and answer for the log", _consistency
    )
    store_cache_consistency: str = _setting(
        "LOCAL_ONE", "replicas of a cluster that answer when an answer is looked up", _consistency
    )
    start_without_store: bool = _setting(
        False, "start although the cluster cannot be reached; calls wait in the spool", switch
    )
    spool_file: str = _setting(
        "", "file in which calls wait for a cluster; empty is a file spool.tamis in the model's folder"
    )
    astra_db_keyspace: str = _setting("", "keyspace of the Astra database of store astra:", workshop=True)
    astra_db_secure_bundle_path: str = _setting(
        "", "secure bundle of that database, as its console gives it", workshop="ASTRA_DB_BUNDLE_PATH"
    )
    astra_db_application_token: str = _setting("", "token that opens it", workshop=True, secret=True)
    astra_db_client_id: str = _setting("", "client id that opens it where there is no token", workshop=True)
    astra_db_client_secret: str = _setting("", "secret of that client id", workshop=True, secret=True)
    store_full_durability: bool = _setting(
        False, "wait for the disk at every commit: survives loss of power, not only of the process", switch
    )
    log_retention_days: int = _setting(
        0, "days after which a logged call is deleted; 0 keeps the log for ever", whole_number(0, 36_500)
    )
    cache_seconds: int = _setting(
        30 * 86_400, "how long an answer is remembered", whole_number(1, 10 * 365 * 86_400)
    )
    cache_rows: int = _setting(1_000_000, "most answers remembered in the store", whole_number(1, 1 << 40))
    cache_memory_rows: int = _setting(
        10_000, "most answers kept in a process's memory; 0 is none", whole_number(0, 1 << 30)
    )
    share_cache: bool = _setting(
        False,
        "let callers find answers to texts that others sent; shows by from_cache what they sent",
        switch,
    )
    max_queue_seconds: float = _setting(
        0.5, "longest a text may wait for the model; later ones are refused with 503", seconds(0, 3_600)
    )
    max_body_bytes: int = _setting(1_048_576, "largest request body", whole_number(1, 1 << 30))
    max_text_chars: int = _setting(
        10_000, "longest text to classify, in characters", whole_number(1, 1 << 30)
    )
    max_texts: int = _setting(1_000, "most texts in one request", whole_number(1, 1_000_000))
    trusted_proxies: str = _setting(
        "",
        "addresses and networks of proxies whose X-Forwarded-For is believed; unix for a Unix socket",
        proxies,
    )
    require_keys: bool = _setting(
        False, "ask every caller for an API key; keys are made by tamis keys create", switch
    )
    keys_file: str = _setting("", "file of the API keys; empty is a file keys.json in the model's folder")
    rate_per_minute: int = _setting(
        0,
        "texts that one caller may send a minute in the long run; 0 is no limit",
        whole_number(0, 1_000_000_000),
    )
    rate_burst: int = _setting(
        1_000, "texts that one caller may send at once after a pause", whole_number(1, 1_000_000)
    )
    rate_file: str = _setting(
        "", "file in which workers count callers' texts; empty is a file rates.tamis in the model's folder"
    )
    fast_path: bool = _setting(
        True, "answer POST /prediction and /predictions before FastAPI, with the same responses", switch
    )
    workers: int = _setting(
        1,
        "processes that answer; two or more are watched, and replaced, by a small parent",
        whole_number(1, 256),
    )
    worker_timeout_seconds: float = _setting(
        1.0, "one of several workers that is silent for longer is replaced", seconds(0.2, 3_600)
    )
    drain_seconds: float = _setting(
        1.0, "how long clients are sent elsewhere before the service stops listening", seconds(0, 3_600)
    )
    stop_seconds: float = _setting(
        10.0, "how long requests that are being answered may then take to finish", seconds(0.1, 3_600)
    )
    max_connections: int = _setting(
        1_000,
        "most open connections of one worker; beyond it they are refused with 503",
        whole_number(1, 1 << 20),
    )
    max_header_bytes: int = _setting(
        16_384, "largest request line and headers together", whole_number(256, 1 << 20)
    )
    header_seconds: float = _setting(
        10.0, "how long a client may take to send the headers, all in all", seconds(0.1, 3_600)
    )
    body_seconds: float = _setting(
        30.0, "how long a client may take to send the body, all in all", seconds(0.1, 3_600)
    )
    keep_alive_seconds: float = _setting(
        75.0, "how long a connection may idle between two requests", seconds(0.1, 3_600)
    )
    slow_read_seconds: float = _setting(
        10.0, "a client that reads too slowly for this long is cut off", seconds(0.1, 3_600)
    )
    min_read_bytes_per_second: int = _setting(
        1_000,
        "a client that leaves its answers waiting reads too slowly below this",
        whole_number(0, 1 << 30),
    )
    log_format: str = _setting(
        "text", "how log lines look: text for people, json for programs", one_of("text", "json")
    )
    log_level: str = _setting(
        "info",
        "least severe log lines to write: debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
    )
    access_log: bool = _setting(False, "write a log line for every request", switch)
    slow_seconds: float = _setting(
        1.0, "a request that takes longer is logged, one in a second at most", seconds(0, 3_600)
    )
    traces_endpoint: str = _setting(
        "",
        "send traces to an OpenTelemetry collector, such as http://127.0.0.1:4318; empty is none",
        base_url,
    )

    @property
    def model_reference(self) -> str:
        """The model to load: `models/spam`, `models/spam@2` or `models/spam@champion`."""
        if not self.model_version:
            return self.model_directory
        if "@" in Path(self.model_directory).name:
            raise SettingsError(
                f"{PREFIX}MODEL_VERSION is {self.model_version!r}, but {PREFIX}MODEL_DIRECTORY "
                f"({self.model_directory!r}) names a version already: set only one of them"
            )
        return f"{self.model_directory}@{_version(self.model_version)}"

    @property
    def store_url(self) -> str:
        """The store to use; one of made-up answers is not kept unless it is named."""
        if self.store or self.mock_model_class:
            return self.store or "memory:"
        return f"sqlite:///{quote(str(self._in_model_folder('tamis.db')))}"

    @property
    def shown_store_url(self) -> str:
        """The store without user and password."""
        return re.sub(r"//[^/]*@", "//", self.store_url)

    @property
    def is_store_a_cluster(self) -> bool:
        """Whether the store is shared by many machines and may be away while this one works."""
        return self.store_url.startswith(("cassandra:", "astra:"))

    def with_keyspace(self, keyspace: str) -> Self:
        """Return the settings of another keyspace of the same cluster."""
        store = re.sub(r"^(cassandra://[^/]+/)[^?]*", lambda found: found[1] + keyspace, self.store)
        return dataclasses.replace(self, store=store, astra_db_keyspace=keyspace)

    @property
    def spool_path(self) -> Path:
        """The file in which calls wait for a cluster."""
        return Path(self.spool_file) if self.spool_file else self._in_model_folder("spool.tamis")

    @property
    def keys_path(self) -> Path:
        """The file of the API keys."""
        return Path(self.keys_file) if self.keys_file else self._in_model_folder("keys.json")

    @property
    def rate_path(self) -> Path:
        """The file in which workers count callers' texts."""
        return Path(self.rate_file) if self.rate_file else self._in_model_folder("rates.tamis")

    def _in_model_folder(self, name: str) -> Path:
        return self.model_folder / name

    @property
    def model_folder(self) -> Path:
        """The model's own folder, which holds its versions, whichever of them is served."""
        folder = Path(self.model_directory)
        if not folder.exists():
            return folder.with_name(folder.name.partition("@")[0])
        return folder.resolve().parent if (folder / "manifest.json").exists() else folder

    def unused_old_files(self) -> list[tuple[Path, str]]:
        """Return files in the places of older versions of Tamis, and the setting that uses each.

        They were in the model's folder's folder, where models shared them. One is listed if the file in the
        model's folder, which is used now, does not exist.
        """
        candidates = [
            (self.keys_path, "keys.json", bool(self.keys_file), f"{PREFIX}KEYS_FILE={{}}"),
            (self.spool_path, "spool.tamis", bool(self.spool_file), f"{PREFIX}SPOOL_FILE={{}}"),
        ]
        if not self.mock_model_class:
            used = self._in_model_folder("tamis.db")
            candidates.append((used, "tamis.db", bool(self.store), f"{PREFIX}STORE=sqlite:///{{}}"))
        return [
            (old, setting.format(quote(str(old)) if name == "tamis.db" else old))
            for used, name, is_set, setting in candidates
            if not is_set and (old := self.model_folder.parent / name).exists() and not used.exists()
        ]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], dotenv_path: Path | None = None) -> Self:
        """Read the settings: `environ` over the file at `dotenv_path`, if it exists, over the defaults.

        Raises SettingsError that names the variable, also for a name that is no setting.
        """
        found = find_values(environ, dotenv_path)
        return cls(**{name: _parse(FIELDS[name], one.text, one.place) for name, one in found.items()})


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}

_OTHER_VARIABLES = frozenset({"TAMIS_SHARED", "TAMIS_COMPILED", "TAMIS_FUZZ_CASES", "TAMIS_KILLS"})
"""Names of the project's own build and tests, which may be set where a service is started too."""


@dataclass(frozen=True, slots=True)
class FoundValue:
    """The text of one setting and where it was found: `TAMIS_PORT` or `TAMIS_PORT (in .env)`."""

    text: str
    place: str


def find_values(environ: Mapping[str, str], dotenv_path: Path | None) -> dict[str, FoundValue]:
    """Return what is set, by the name of the setting; raise SettingsError for a name that is none.

    A misspelt name would otherwise be ignored: `TAMIS_REQUIRE_KEY=true` would serve without keys.
    """
    sources = [(environ, ""), (_read_dotenv(dotenv_path), f" (in {dotenv_path})")]
    for source, place in sources:
        _require_known(source, place)
    found: dict[str, FoundValue] = {}
    for field in FIELDS.values():
        for source, place in sources:
            name = next((name for name in variables(field) if name in source), None)
            if name is not None:
                found[field.name] = FoundValue(source[name], f"{name}{place}")
                break
    return found


def _require_known(source: Mapping[str, str], place: str) -> None:
    known = {name for field in FIELDS.values() for name in variables(field)} | _OTHER_VARIABLES
    for name in source:
        if name.startswith(PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, sorted(known - _OTHER_VARIABLES), 1, cutoff=0.0)
            raise SettingsError(f"{name}{place} is not a setting; the nearest is {nearest[0]}")


def variables(field: dataclasses.Field[Any]) -> list[str]:
    """Return the names of a setting's environment variable; the first one wins."""
    name = field.name.upper()
    workshop = field.metadata["workshop"]
    return [
        f"{PREFIX}{name}",
        *([name] if workshop else []),
        *([workshop] if workshop not in (True, False) else []),
    ]


def _version(value: str) -> str:
    """The workshop's versions read v1, v2; Tamis counts 1, 2. Other words are aliases."""
    return value[1:] if value[:1] in "vV" and value[1:].isdecimal() else value


def _parse(field: dataclasses.Field[Any], value: str, name: str) -> Any:
    try:
        return field.metadata["parse"](value.strip())
    except UnicodeEncodeError:
        raise SettingsError(f"{name} is not UTF-8") from None
    except ValueError as wrong:
        given = "" if field.metadata["secret"] else f", not {value!r}"
        raise SettingsError(f"{name} {wrong}{given}") from None


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        lines = list(parse_stream(io.StringIO(path.read_text("utf-8-sig"))))
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8") from None
    for line in lines:
        if line.error:  # the line may hold a secret: only its place is told
            raise SettingsError(f"{path}, line {line.original.line}: not NAME=value")
    return {line.key: line.value or "" for line in lines if line.key is not None}
