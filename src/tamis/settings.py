"""Every setting: one frozen object, read once from the environment and a `.env` file.

Each field carries its one line of meaning; its variable is its name in capitals after `TAMIS_`.
Knows no part of Tamis that uses a setting.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from dotenv.parser import parse_stream

from tamis.errors import SettingsError

PREFIX = "TAMIS_"

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"", "0", "false", "f", "no", "n", "off"})


def _text(value: str) -> str:
    value.encode()  # the environment may hold bytes that are no text: they arrive as lone surrogates
    return value


def _switch(value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return value.lower() in _TRUE


def _number(first: int, last: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 20 and first <= int(value) <= last):
            raise ValueError(f"must be a whole number from {first} to {last}")
        return int(value)

    return parse


def _proxies(value: str) -> str:
    """Check a list of addresses and networks; one that holds everybody would believe every caller."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        try:
            is_proxy = entry == "unix" or ip_network(entry).prefixlen > 0
        except ValueError:
            is_proxy = False
        if not is_proxy:
            raise ValueError(
                "must list your own proxies, such as 127.0.0.1,10.0.0.0/8,unix (with * every caller could "
                "claim any address)"
            )
    return value


def _setting(
    default: Any, meaning: str, parse: Callable[[str], Any] = _text, *, workshop: bool = False
) -> Any:
    """Describe one setting; with `workshop` its variable works without the prefix too."""
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "parse": parse, "workshop": workshop}
    )


@dataclass(frozen=True)
class Settings:
    """What can be set from outside."""

    api_name: str = _setting(
        "Tamis", "name of the service, shown by GET / and in the documentation", workshop=True
    )
    model_directory: str = _setting(
        "models/spam", "folder of the model, also NAME@VERSION or NAME@ALIAS", workshop=True
    )
    model_version: str = _setting(
        "", "version to serve, such as 2, v2 or champion; empty is the newest", workshop=True
    )
    mock_model_class: bool = _setting(
        False, "serve made-up answers without any model, for trying things out", _switch, workshop=True
    )
    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 is every network of this machine")
    port: int = _setting(8000, "port to listen on; 0 takes a free one", _number(0, 65_535))
    max_body_bytes: int = _setting(1_048_576, "largest request body", _number(1, 1 << 30))
    max_text_chars: int = _setting(10_000, "longest text to classify, in characters", _number(1, 1 << 30))
    max_texts: int = _setting(1_000, "most texts in one request", _number(1, 1_000_000))
    trusted_proxies: str = _setting(
        "",
        "addresses and networks of proxies whose X-Forwarded-For is believed; unix for a Unix socket",
        _proxies,
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

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], dotenv_path: Path | None = None) -> Self:
        """Read the settings: `environ` over the file at `dotenv_path`, if it exists, over the defaults.

        Raises SettingsError that names the variable.
        """
        sources = [(environ, ""), (_read_dotenv(dotenv_path), f" (in {dotenv_path})")]
        values = {}
        for field in dataclasses.fields(cls):
            for source, place in sources:
                name = next((name for name in variables(field) if name in source), None)
                if name is not None:
                    values[field.name] = _parse(field, source[name], f"{name}{place}")
                    break
        return cls(**values)


def variables(field: dataclasses.Field[Any]) -> list[str]:
    """Return the names of a setting's environment variable; the first one wins."""
    name = field.name.upper()
    return [f"{PREFIX}{name}", *([name] if field.metadata["workshop"] else [])]


def _version(value: str) -> str:
    """The workshop's versions read v1, v2; Tamis counts 1, 2. Other words are aliases."""
    return value[1:] if value[:1] in "vV" and value[1:].isdecimal() else value


def _parse(field: dataclasses.Field[Any], value: str, name: str) -> Any:
    try:
        return field.metadata["parse"](value.strip())
    except UnicodeEncodeError:
        raise SettingsError(f"{name} is not UTF-8") from None
    except ValueError as wrong:
        raise SettingsError(f"{name} {wrong}, not {value!r}") from None


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
